//! Who gets a slot, in which order, and when nothing more is claimed.

use futures_util::FutureExt;

use super::*;

fn begin(slots: &Arc<Slots>) -> Place {
    slots.begin(Company::Beside).expect("a free slot")
}

#[test]
fn a_job_that_waits_gives_its_slot_to_a_new_one() {
    let slots = Slots::new(1);
    let first = begin(&slots);
    assert!(slots.begin(Company::Beside).is_none(), "one slot, one job");
    first.release();
    let _second = begin(&slots);
    assert!(!first.holds_a_slot());
}

#[tokio::test]
async fn a_job_that_comes_back_goes_before_a_new_one_and_after_those_that_came_back_earlier() {
    let slots = Slots::new(1);
    let (first, second) = (begin(&slots), {
        slots.change(|state| state.total = 2);
        begin(&slots)
    });
    slots.change(|state| state.total = 1);
    second.release();
    first.release();
    let third = begin(&slots);
    let (mut back, mut later) = (Box::pin(second.regain()), Box::pin(first.regain()));
    assert!(back.as_mut().now_or_never().is_none() && later.as_mut().now_or_never().is_none());
    drop(third);
    assert!(slots.begin(Company::Beside).is_none(), "a new job does not overtake");
    assert!(later.as_mut().now_or_never().is_none(), "nor does one that came back later");
    back.await;
    drop(second);
    later.await;
    assert!(first.holds_a_slot());
}

#[tokio::test]
async fn a_wait_that_is_given_up_leaves_no_place_in_the_line() {
    let slots = Slots::new(1);
    let first = begin(&slots);
    first.release();
    let second = begin(&slots);
    assert!(first.regain().now_or_never().is_none(), "cancelled while it waits");
    drop(second);
    assert!(slots.has_room());
}

#[test]
fn the_number_of_jobs_without_a_slot_is_bounded_and_the_reason_is_told() {
    let slots = Slots::new(2);
    let waiting: Vec<Place> = (0..MOST_WITHOUT)
        .map(|n| {
            let job = begin(&slots);
            assert_eq!(job.is_crowded(), n >= MANY_WITHOUT, "{n} wait");
            job.release();
            job
        })
        .collect();
    assert!(slots.begin(Company::Beside).is_none());
    assert!(slots.why_not().is_some_and(|why| why.contains("32 may")));
    drop(waiting);
    assert!(slots.has_room() && slots.why_not().is_none());
}

#[test]
fn while_a_job_waits_for_a_part_that_all_need_nothing_more_begins() {
    let slots = Slots::new(2);
    let (one, other) = (begin(&slots), begin(&slots));
    for job in [&one, &other] {
        job.release();
        job.waits_for(Some(Peer::Engine));
        job.waits_for(Some(Peer::Engine));
    }
    assert!(!slots.has_room());
    assert!(slots.why_not().is_some_and(|why| why.contains("the Docker Engine does not answer")));
    one.waits_for(None);
    assert!(!slots.has_room(), "the other one waits still");
    drop(other);
    assert!(slots.has_room(), "one that was cancelled waits no more");
}

#[test]
fn a_job_that_builds_alone_begins_where_none_has_begun_and_nothing_begins_beside_it() {
    let slots = Slots::new(2);
    let waits = begin(&slots);
    waits.release();
    assert!(slots.begin(Company::Alone).is_none(), "a dead worker would count against the one that waits");
    drop(waits);
    let alone = slots.begin(Company::Alone).expect("an idle host");
    assert!(slots.begin(Company::Beside).is_none());
    assert!(slots.why_not().is_some_and(|why| why.contains("builds alone")));
    alone.release();
    assert!(slots.has_room() && slots.why_not().is_none(), "it idles the host for its own build only");
}

#[tokio::test]
async fn jobs_that_build_alone_go_on_one_after_the_other_and_never_wait_for_each_other() {
    let slots = Slots::new(2);
    let one = slots.begin(Company::Alone).expect("an idle host");
    one.release();
    let beside = begin(&slots);
    assert!(one.regain().now_or_never().is_none(), "another builds");
    drop(beside);
    one.regain().await;
    assert!(!slots.has_room());
}

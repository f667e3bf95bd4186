//! The other servers that the queue is said to work with: the same tests once more on Redis 6.2 and on Valkey.

use slipway::queue::{Fenced, Producer, Telling};

use crate::rig::*;

const REDIS_6_2: &str = "redis-6.2/redis-server";
const VALKEY: &str = "valkey/valkey-server";

macro_rules! once_more_on {
    ($program:ident: $($of:ident::$test:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            Program::part(super::$program).runs(crate::$of::$test);
        })*
    };
}

mod on_redis_6_2 {
    use crate::rig::Program;

    once_more_on! { REDIS_6_2:
        claim::a_pushed_job_is_claimed_to_the_byte_and_stays_in_the_workers_list_until_it_is_acknowledged,
        claim::what_is_no_job_is_claimed_without_a_record_and_ends_in_the_dead_letter_list,
        claim::a_claim_whose_caller_goes_away_is_not_lost,
        claim::callers_that_wait_together_get_the_jobs_in_the_order_of_the_queue_and_each_once,
        claim::a_job_of_the_same_service_further_back_supersedes_this_one_unbuilt,
        claim::the_same_deployment_pushed_twice_waits_in_the_record_and_is_dropped_after_a_good_end,
        ending::an_end_that_was_not_sent_yet_is_voided_by_a_cancel,
        ending::a_cancel_of_a_queued_job_takes_it_out_of_the_queue_and_reports_it_without_a_build_slot,
        ending::a_cancel_with_no_worker_there_waits_for_the_job,
        ending::a_restarted_worker_finds_its_claims_as_new_attempts_and_its_stored_ends_as_they_are,
        forgotten::a_redis_that_came_back_empty_gets_the_records_of_running_attempts_again,
        trouble::a_key_of_a_wrong_type_is_named_nothing_is_lost_and_it_goes_on_when_it_is_gone,
        trouble::an_acl_user_with_the_listed_rights_and_no_other_can_do_everything,
        trouble::all_keys_of_a_queue_lie_in_one_slot_and_the_protocol_works_on_a_cluster,
        standing_in::commands_that_were_renamed_and_can_be_done_without_are_done_without,
        standing_in::commands_that_a_user_may_not_use_and_can_be_done_without_are_done_without,
        bounds::of_huge_elements_that_wait_no_more_are_read_than_fit_into_the_bound,
        bounds::every_record_that_is_kept_goes_in_its_time_and_every_key_with_its_queue,
    }
}

mod on_valkey {
    use crate::rig::Program;

    once_more_on! { VALKEY:
        claim::a_pushed_job_is_claimed_to_the_byte_and_stays_in_the_workers_list_until_it_is_acknowledged,
        claim::a_job_of_the_same_service_further_back_supersedes_this_one_unbuilt,
        ending::a_cancel_of_a_queued_job_takes_it_out_of_the_queue_and_reports_it_without_a_build_slot,
        ending::a_restarted_worker_finds_its_claims_as_new_attempts_and_its_stored_ends_as_they_are,
        forgotten::a_redis_that_came_back_empty_gets_the_records_of_running_attempts_again,
        trouble::a_full_redis_drains_and_takes_no_new_job,
        trouble::an_acl_user_with_the_listed_rights_and_no_other_can_do_everything,
        trouble::all_keys_of_a_queue_lie_in_one_slot_and_the_protocol_works_on_a_cluster,
        standing_in::commands_that_were_renamed_and_can_be_done_without_are_done_without,
        bounds::every_record_that_is_kept_goes_in_its_time_and_every_key_with_its_queue,
        tls::a_job_goes_all_its_way_by_tls_with_user_password_and_database_of_the_url,
        tls::a_server_that_wants_tls_and_one_that_has_none_are_told_apart_with_the_way_out,
    }
}

/// Half a minute of waiting each: both at a time.
#[test]
fn a_dead_workers_jobs_start_on_another_host_on_redis_6_2_and_on_valkey_too() {
    std::thread::scope(|threads| {
        for program in [REDIS_6_2, VALKEY] {
            threads.spawn(|| {
                Program::part(program).runs(
                    crate::hosts::a_dead_workers_jobs_start_on_another_host_within_45_s_at_the_head_of_the_queue_as_their_records_say,
                );
            });
        }
    });
}

#[test]
fn a_full_redis_6_2_takes_no_new_job_names_the_cure_and_loses_nothing() {
    #[tokio::main(flavor = "current_thread")]
    async fn test() {
        let redis = Redis::start().await;
        let worker = redis.worker().await;
        redis.push(&job("d1", "s1")).await;
        redis.push(&job("d2", "s2")).await;
        let first = worker.claim().await;
        assert_eq!(worker.queue.store_outcome(&first, &builded()).await.unwrap(), Fenced::Stored);
        let _: () = redis.cmd(&["CONFIG", "SET", "maxmemory", "100kb"]).await;
        let producer = Producer::connect(&redis.config()).await.unwrap();
        let named = |error: String| assert!(error.contains("maxmemory") && error.contains("Raise"), "{error}");
        for in_front in [false, true] {
            named(producer.enqueue(b"{}", &id("x"), in_front).await.unwrap_err().to_string());
        }
        named(worker.queue.may_post(&first, Telling::End).await.unwrap_err().to_string());
        named(producer.cancel(&id("d2")).await.unwrap_err().to_string());
        let waits = tokio::time::timeout(std::time::Duration::from_secs(1), worker.queue.claim()).await;
        assert!(waits.is_err(), "no job can be written down as taken");
        assert_eq!((redis.len("q").await, redis.len(&worker.claimed()).await), (1, 1));

        let _: () = redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
        assert_eq!(worker.queue.may_post(&first, Telling::End).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(&first).await.unwrap();
        assert_eq!(name(&worker.claim().await), "d2");
    }
    Program::part(REDIS_6_2).runs(test);
}

//! The host's power cut: worker, Engine and Redis gone at once, the journal's last write torn. All start again by themselves, and the truth is told.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::support::{Held, Job, OwnEngine, Repository, Rig, Stage, Trouble, eventually};

const SOON: Duration = Duration::from_secs(30);
/// The two bytes that every record begins with, and no text has.
const MARKER: &[u8] = &[0xFF, 0xFE];

/// Prints for ever where nobody has been before, and ends at once where somebody has.
const DOCKERFILE: &str = "FROM busybox:base
RUN --mount=type=cache,target=/kept \\
    if [ -e /kept/seen ]; then echo built after the cut; exit; fi; \\
    touch /kept/seen; i=0; while i=$((i+1)); do echo \"line $i of the first attempt\"; sleep 0.1; done
";

/// The numbers of the first attempt's lines, in the order of the text.
fn numbers(text: &str) -> Vec<u32> {
    let lines = text.split("line ").filter_map(|rest| rest.split_once(" of the first attempt"));
    lines.filter_map(|(number, _)| number.parse().ok()).collect()
}

/// Cuts the power while lines wait in the journal, and lets `tear` do to its file what the cut may have done; it returns how many of
/// the file's bytes are whole.
async fn cut(tear: impl FnOnce(&Path, &[u8]) -> usize) {
    let mut engine = OwnEngine::start().await;
    let mut rig = Rig::with(|options| options.engine(engine.socket())).await;
    rig.engine = engine.client();
    let repository = Repository::public(&[("Dockerfile", DOCKERFILE)]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "line 3 of", SOON).await;
    rig.dashboard.set(Trouble::Answer(503));
    let told = numbers(&rig.dashboard.log(&job.id)).len() as u32;
    eventually("lines wait in the journal", SOON, async || {
        let last = numbers(&rig.host.journal()).pop().unwrap_or_default();
        if last > told + 10 { Ok(()) } else { Err(format!("{last}")) }
    })
    .await;

    rig.lose_power(&mut engine).await;
    let journal = rig.host.journal_files().pop().expect("the job's journal");
    let bytes = std::fs::read(&journal).expect("read the journal");
    let whole = tear(&journal, &bytes);
    let kept = numbers(&String::from_utf8_lossy(&bytes[..whole])).pop().expect("lines in the journal");
    assert!(kept > told, "some lines are only in the journal: {kept}, {told}");

    rig.dashboard.set(Trouble::None);
    rig.regain_power(&mut engine).await;
    let end = rig.built(&job).await;
    assert!(end.image.contains(&format!(":{}-2@", job.id)), "the second attempt: {}", end.image);
    assert_eq!(rig.registry.holds(&end.image).await, Ok(()));
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDING", "BUILDED"]);
    let log = rig.dashboard.log(&job.id);
    let (first, second) = log.split_once("Attempt 2 starts on").unwrap_or_else(|| panic!("it says that it starts again: {log}"));
    assert_eq!(numbers(first), (1..=kept).collect::<Vec<_>>(), "every line that was kept, once and in order");
    assert_eq!(numbers(second), [0; 0], "{log}");
    assert!(second.contains("built after the cut"), "{log}");
    assert!(!log.contains("[slipway]"), "what was torn is no riddle in the log: {log}");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn after_a_power_cut_that_tore_the_last_record_the_job_is_built_and_every_whole_line_told() {
    cut(|journal, bytes| {
        let last = bytes.windows(2).rposition(|two| two == MARKER).expect("a record");
        let torn = last + (bytes.len() - last) / 2;
        std::fs::File::options().write(true).open(journal).and_then(|f| f.set_len(torn as u64)).expect("tear the journal");
        last
    })
    .await;
}

#[tokio::test]
async fn after_a_power_cut_that_left_garbage_behind_the_last_record_the_job_is_built_and_every_line_told() {
    cut(|journal, bytes| {
        // Half of a record, and a block of which nothing was written.
        let record = bytes.windows(2).rposition(|two| two == MARKER).expect("a record");
        let mut garbage = bytes[record..record + (bytes.len() - record) / 2].to_vec();
        garbage.resize(4096, 0);
        let file = std::fs::File::options().write(true).open(journal).expect("open the journal");
        file.write_all_at(&garbage, bytes.len() as u64).expect("spoil the journal");
        bytes.len()
    })
    .await;
}

#[tokio::test]
async fn after_a_power_cut_in_a_push_the_image_of_the_first_attempt_is_gone_and_the_second_ones_told() {
    let mut engine = OwnEngine::start().await;
    let mut held = Held::in_stage(Stage::Push, |options| options.engine(engine.socket())).await;
    held.rig.engine = engine.client();
    held.rig.lose_power(&mut engine).await;
    assert!(spoil(&held.rig.host.work_dir().join("cache")) > 0, "the host had kept something");
    held.release();
    held.rig.regain_power(&mut engine).await;
    let end = held.rig.built(&held.job).await;
    assert!(end.image.contains(&format!(":{}-2@", held.job.id)), "the second attempt: {}", end.image);
    assert_eq!(held.rig.registry.holds(&end.image).await, Ok(()));
    held.rig.finish().await;
    engine.assert_as_at_first().await;
}

/// Empties every file below a folder, as a power cut may do with those that nobody has synced. Returns how many.
fn spoil(folder: &Path) -> usize {
    let mut spoilt = 0;
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            spoilt += spoil(&entry.path());
        } else if kind.is_file() {
            std::fs::File::create(entry.path()).expect("empty a file");
            spoilt += 1;
        }
    }
    spoilt
}

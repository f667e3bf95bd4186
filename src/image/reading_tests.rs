//! Huge files of several builds at once.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{GitConfig, PrivateHosts};
use crate::context::{BuildContext, Content, ContextEntry};
use crate::protocol::{DeploymentId, LogSink, LogType, ServiceId};
use crate::secrets::Redactor;
use crate::source::GitSourceStage;
use crate::stage::StageContext;

const SIZE: u64 = HUGE_FILE + 1;

struct Quiet;

impl LogSink for Quiet {
    fn line(&self, _: LogType, _: &str) {}
}

/// A context of one huge file.
async fn huge() -> Arc<Folder> {
    let ctx = StageContext {
        deployment: DeploymentId::parse("d1").expect("an id"),
        service: ServiceId::parse("svc_1").expect("an id"),
        attempt: 1,
        cancel: CancellationToken::new(),
        log: Arc::new(Quiet),
        redactor: Arc::new(Redactor::new(&[], &[], &[])),
        tasks: TaskTracker::new(),
    };
    let config = GitConfig {
        allowed_hosts: Vec::new(),
        private_hosts: PrivateHosts::All,
        github_url: "https://github.com".parse().expect("a URL"),
        idle_timeout: Duration::from_secs(30),
        min_rate: 1,
        max_fetch_bytes: 1 << 30,
        max_files: 1000,
        max_file_bytes: 1 << 30,
        cache_max_bytes: 1 << 30,
    };
    let (repository, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let git = git2::Repository::init_bare(repository.path()).expect("a repository");
    let tree = git.treebuilder(None).and_then(|builder| builder.write()).and_then(|id| git.find_tree(id)).expect("a tree");
    let who = git2::Signature::now("A", "a@example.com").expect("a name");
    let commit = git.commit(None, &who, &who, "x", &tree, &[]).expect("a commit").to_string();
    let stage = GitSourceStage::new(config, cache.path().to_owned()).expect("the git stage");
    let tree = stage.open_local(repository.path(), Some(&commit), &ctx).await.expect("the commit's tree");
    let content = Content::Inline { bytes: Arc::new(vec![7; SIZE as usize]), executable: false };
    let context = BuildContext {
        dockerfile: "Dockerfile".into(),
        dockerfile_bytes: Vec::new(),
        excludes: Default::default(),
        entries: vec![ContextEntry { path: "huge".into(), size: SIZE, mtime_ns: 0, content }],
        secrets: Vec::new(),
        shared_key: "key".into(),
        mounts_secrets: false,
        tree: Arc::new(tree),
    };
    Arc::new(Folder::of(Arc::new(context)))
}

#[tokio::test]
async fn a_transfer_that_nobody_takes_does_not_hold_up_the_huge_files_of_other_builds() {
    let folder = huge().await;
    let owner = TaskTracker::new();
    let start = |tasks: &BuildTasks| {
        let (data, taken) = mpsc::channel(1);
        let readers = Readers::new(folder.clone(), Arc::from([0]), data, tasks.clone(), Arc::default());
        readers.request(0).expect("a file");
        taken
    };
    let (stalled_tasks, tasks) = (BuildTasks::new(&owner), BuildTasks::new(&owner));
    let mut stalled = start(&stalled_tasks);
    // it is being sent from here on
    assert!(stalled.recv().await.is_some());
    let mut taken = start(&tasks);
    let whole = async {
        let mut bytes = 0;
        while let Some(Ok(packet)) = taken.recv().await {
            if packet.data.is_empty() {
                break;
            }
            bytes += packet.data.len() as u64;
        }
        bytes
    };
    let whole = tokio::time::timeout(Duration::from_secs(20), whole).await;
    drop((stalled, taken));
    stalled_tasks.end().await;
    tasks.end().await;
    assert_eq!(whole, Ok(SIZE), "the second build's file");
}

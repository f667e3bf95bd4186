//! Stands before the Engine's socket; dropping it is the Engine gone.

use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

pub struct Proxy {
    task: JoinHandle<()>,
}

impl Proxy {
    pub fn before(engine: PathBuf, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                let engine = engine.clone();
                connections.spawn(async move {
                    if let Ok(mut there) = UnixStream::connect(engine).await {
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    }
                });
            }
        });
        Self { task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

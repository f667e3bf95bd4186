//! An address that swallows connections: packets go there, and nothing comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A listening socket whose queue is full and stays so: the kernel drops whatever else wants to connect.
pub struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    pub async fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(1).expect("listen");
        let address = listener.local_addr().expect("bound");
        let mut fill = Vec::new();
        while let Ok(connected) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            fill.push(connected.expect("connect"));
            assert!(fill.len() < 16, "the queue is never full");
        }
        Self { address, _listener: listener, _fill: fill }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

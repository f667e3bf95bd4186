//! A server that answers in the most hostile ways, in place of another one or alone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const MAX_HEAD: usize = 64 * 1024;
/// "For ever" ends here, should nobody hang up: the test fails then by its memory or its time.
const FOR_EVER: usize = 1 << 30;

/// What is answered to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then the other ones again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

impl Answer {
    /// A well-formed response.
    pub fn http(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    /// A response whose body does not end.
    pub fn endless(status: &str, headers: &[(&str, &str)], first: &[u8], again: &[u8]) -> Self {
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(first);
        Self::Endless(bytes, again.to_vec())
    }
}

fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}

struct Rule {
    /// Stands in the request's head.
    word: String,
    answer: Answer,
    times: usize,
}

#[derive(Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<String>>,
}

/// Everything it does ends when it is dropped.
pub struct Front {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Front {
    /// `target`: who gets the requests that no rule is for. `None`: they are answered with 404.
    pub async fn before(target: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State::default());
        let target = target.map(|t| t.parse().expect("an address"));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, target, state.clone()));
        Self { address, state, _tasks: tasks }
    }

    /// The next `times` requests that have `word` in their head are answered so.
    pub fn answer(&self, word: impl Into<String>, times: usize, answer: Answer) {
        self.state.rules.lock().expect("rules").push(Rule { word: word.into(), answer, times });
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests that no rule was for.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().expect("requests").clone()
    }
}

async fn serve(listener: TcpListener, target: Option<SocketAddr>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((client, _)) = listener.accept().await {
            let state = state.clone();
            connections.spawn(async move {
                // A peer that hangs up is what most of these answers are for.
                let _ = connection(client, target, &state).await;
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut client: TcpStream, target: Option<SocketAddr>, state: &State) -> std::io::Result<()> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if read.len() > MAX_HEAD || client.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    match (rule_for(state, &head), target) {
        (Some(Answer::Bytes(bytes)), _) => {
            client.write_all(&bytes).await?;
            client.shutdown().await?;
            // What it still sends is taken, or it would see a reset in place of the answer.
            let mut rest = [0; 4096];
            while client.read(&mut rest).await? > 0 {}
            Ok(())
        }
        (Some(Answer::Endless(first, again)), _) => {
            client.write_all(&first).await?;
            let mut sent = 0;
            while sent < FOR_EVER {
                client.write_all(&again).await?;
                sent += again.len();
            }
            panic!("a peer took {FOR_EVER} bytes of {:?}", head.lines().next());
        }
        (Some(Answer::Silence), _) => {
            let mut rest = [0; 4096];
            while client.read(&mut rest).await? > 0 {}
            Ok(())
        }
        (None, Some(target)) => {
            let mut server = TcpStream::connect(target).await?;
            // One request a connection: the next one is looked at again.
            let line = head.find("\r\n").unwrap_or(0) + 2;
            let others: String =
                head[line..].split_inclusive("\r\n").filter(|l| !l.to_lowercase().starts_with("connection:")).collect();
            server.write_all(format!("{}connection: close\r\n{others}", &head[..line]).as_bytes()).await?;
            server.write_all(&read[end..]).await?;
            copy_bidirectional(&mut client, &mut server).await.map(|_| ())
        }
        (None, None) => {
            state.requests.lock().expect("requests").push(head);
            client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
        }
    }
}

fn rule_for(state: &State, head: &str) -> Option<Answer> {
    let mut rules = state.rules.lock().expect("rules");
    let rule = rules.iter_mut().find(|rule| rule.times > 0 && head.contains(&rule.word))?;
    rule.times -= 1;
    Some(rule.answer.clone())
}

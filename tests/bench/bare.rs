//! What the machine can do without Parlor: a WebSocket server that knows nobody and stores nothing, in this process, on a
//! thread of its own. It acknowledges what it is sent and hands it to a group of connections; nobody can be faster.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::people::{self, Heard, TEXT};
use crate::report::Report;
use crate::wire::{Format, Incoming, Kind, Socket, framed, frames};

/// W1 without anything: so many senders, and so many connections that get every message.
const SENDERS: usize = 64;
const GROUP: usize = 6;

/// Measures what W1 and W3 are related to.
pub(crate) async fn measure(members: usize, span: Duration, report: &mut Report) -> anyhow::Result<()> {
    let alone = closed_loop(1, span / 2).await?;
    report.limit("echo", alone.0, "messages/s");
    let (_, delivered) = closed_loop(GROUP, span / 2).await?;
    report.limit("echo and fan-out, delivered", delivered, "events/s");
    for (name, in_flight) in [("fan-out, 1 in flight", 1), ("fan-out, 8 in flight", 8)] {
        report.limit(name, fan_out(members, in_flight, span / 2).await?, "events/s");
    }
    Ok(())
}

/// 64 senders, each in a group of this size; gives messages and deliveries per second.
async fn closed_loop(group: usize, span: Duration) -> anyhow::Result<(f64, f64)> {
    let server = Server::start(group)?;
    let (stopped, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Heard::default()));
    let messages = Arc::new(AtomicU64::new(0));
    let mut work = JoinSet::new();
    for number in 0..SENDERS * group {
        let socket = Socket::connect(server.address, Format::Json).await?;
        if number % group == 0 {
            work.spawn(send(socket, stopped.clone(), heard.clone(), messages.clone()));
        } else {
            work.spawn(people::listen(socket, heard.clone(), |_| {}));
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (before, heard_before) = (messages.load(Ordering::Relaxed), heard.events.load(Ordering::Relaxed));
    let began = Instant::now();
    tokio::time::sleep(span).await;
    let seconds = began.elapsed().as_secs_f64();
    stopped.store(true, Ordering::Relaxed);
    let count = messages.load(Ordering::Relaxed) - before;
    Ok((count as f64 / seconds, (heard.events.load(Ordering::Relaxed) - heard_before) as f64 / seconds))
}

async fn send(mut socket: Socket, stopped: Arc<AtomicBool>, heard: Arc<Heard>, messages: Arc<AtomicU64>) {
    let command = Format::Json.send(1, "0190a0b0-0000-7000-8000-000000000000", &TEXT[..100]);
    let _: anyhow::Result<()> = async {
        while !stopped.load(Ordering::Relaxed) {
            socket.outgoing.put(&command);
            socket.outgoing.flush().await?;
            let mut answered = false;
            while !answered {
                socket.incoming.fill().await?;
                let mut events = 0;
                frames(&mut socket.incoming, socket.protocol, |kind, _| {
                    answered |= kind == Kind::Answer;
                    events += u64::from(kind == Kind::Event);
                    Ok(())
                })?;
                heard.events.fetch_add(events, Ordering::Relaxed);
            }
            messages.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
    .await;
}

/// One sender into one group; gives deliveries per second.
async fn fan_out(members: usize, in_flight: u64, span: Duration) -> anyhow::Result<f64> {
    let server = Server::start(members)?;
    let (heard, landed, wanted) =
        (Arc::new(Heard::default()), Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
    let mut sender = Socket::connect(server.address, Format::Json).await?;
    let mut work = JoinSet::new();
    for _ in 1..members {
        let socket = Socket::connect(server.address, Format::Json).await?;
        let (landed, wanted) = (landed.clone(), wanted.clone());
        let notify = move |events| {
            if events >= wanted.load(Ordering::Relaxed) {
                landed.notify_one();
            }
        };
        work.spawn(people::listen(socket, heard.clone(), notify));
    }
    let command = Format::Json.send(1, "0190a0b0-0000-7000-8000-000000000000", &TEXT[..100]);
    let others = members as u64 - 1;
    let (began, mut sent) = (Instant::now(), 0_u64);
    while began.elapsed() < span {
        sent += 1;
        sender.outgoing.put(&command);
        sender.outgoing.flush().await?;
        let enough = (sent + 1).saturating_sub(in_flight) * others;
        wanted.store(enough, Ordering::Relaxed);
        while heard.events.load(Ordering::Relaxed) < enough {
            landed.notified().await;
        }
    }
    Ok(heard.events.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

/// The bare server. Connections that come one after the other are a group, of a given size; the group hears what its
/// first connection sends.
struct Server {
    address: SocketAddr,
    stop: Arc<Notify>,
}

/// What goes out to one connection.
type Queue = mpsc::UnboundedSender<Arc<[u8]>>;

impl Server {
    fn start(group: usize) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        listener.set_nonblocking(true)?;
        let (address, stop) = (listener.local_addr()?, Arc::new(Notify::new()));
        let stopped = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                let mut work = JoinSet::new();
                let mut members: Arc<Mutex<Vec<Queue>>> = Arc::default();
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        () = stopped.notified() => return,
                    };
                    let Ok((stream, _)) = accepted else { return };
                    let (queue, outgoing) = mpsc::unbounded_channel();
                    let is_full = {
                        let mut members = members.lock().unwrap_or_else(PoisonError::into_inner);
                        members.push(queue.clone());
                        members.len() == group
                    };
                    work.spawn(serve(stream, queue, outgoing, members.clone()));
                    if is_full {
                        members = Arc::default();
                    }
                }
            });
        });
        Ok(Self { address, stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn serve(
    stream: TcpStream,
    queue: Queue,
    mut outgoing: mpsc::UnboundedReceiver<Arc<[u8]>>,
    members: Arc<Mutex<Vec<Queue>>>,
) {
    let _: anyhow::Result<()> = async {
        stream.set_nodelay(true)?;
        let (reading, mut writing) = stream.into_split();
        let mut incoming = Incoming::new(reading);
        incoming.head().await?;
        writing.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await?;
        let mut answer = Vec::new();
        framed(1, b"{\"id\":\"1\",\"sent\":{\"message\":{}}}", false, &mut answer);
        let answer: Arc<[u8]> = answer.into();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                filled = incoming.fill() => {
                    filled?;
                    while let Some((_, payload)) = incoming.frame()? {
                        let mut event = Vec::with_capacity(payload.len() + 16);
                        event.extend_from_slice(b"{\"id\":\"\",\"event\":");
                        event.extend_from_slice(payload);
                        let mut frame = Vec::with_capacity(event.len() + 4);
                        framed(1, &event, false, &mut frame);
                        let frame: Arc<[u8]> = frame.into();
                        queue.send(answer.clone())?;
                        for member in members.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                            if !member.same_channel(&queue) {
                                member.send(frame.clone())?;
                            }
                        }
                    }
                }
                Some(first) = outgoing.recv() => {
                    batch.clear();
                    batch.extend_from_slice(&first);
                    while let Ok(more) = outgoing.try_recv() {
                        batch.extend_from_slice(&more);
                    }
                    writing.write_all(&batch).await?;
                }
            }
        }
    }
    .await;
}

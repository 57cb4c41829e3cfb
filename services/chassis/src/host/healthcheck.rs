//! Asking a running process whether it is ready, for containers and scripts without an HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Process, ports};

/// The time within which the process must have answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fails unless the process with this configuration says at its admin port that it is ready.
pub(super) async fn check(process: &Process) -> anyhow::Result<()> {
    let address = reachable(ports::admin(process.name, &process.listen));
    let answer = tokio::time::timeout(PATIENCE, ask(address)).await;
    let (status, text) =
        answer.with_context(|| format!("{address} has not answered within {PATIENCE:?}"))??;
    if status != StatusCode::OK {
        bail!("not ready: {status} {text}");
    }
    Ok(())
}

async fn ask(address: SocketAddr) -> anyhow::Result<(StatusCode, String)> {
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("nothing answers at {address}"))?;
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz").header(header::HOST, address.to_string()).body(Body::empty())?;
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
    };
    // The connection ends when the sender has gone. An error of the connection is one of the answer as well.
    let (answer, _) = tokio::join!(answer, connection);
    let (status, body) = answer.with_context(|| format!("{address} does not answer"))?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The address at which a process that listens everywhere is reached from its own machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{self, Readiness};
    use crate::backup::Data;
    use crate::config::ListenConfig;
    use crate::profile::Profile;
    use crate::tasks::Tasks;
    use crate::telemetry::{self, Gauges, LogConfig};

    #[tokio::test]
    async fn it_says_whether_the_process_is_ready() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let process = Process {
            name: "auth",
            profile: Profile::Production,
            listen: ListenConfig { admin: Some(([0, 0, 0, 0], port).into()), ..ListenConfig::default() },
            log: LogConfig::default(),
            data: Data::default(),
        };
        let readiness = Readiness::new(Profile::Production, Vec::new());
        let served = axum::serve(
            listener,
            admin::router(readiness.clone(), telemetry::metrics_handle(), Gauges::default()),
        );
        let tasks = Tasks::default();
        tasks.spawn("admin", |shutdown| async move {
            tokio::select! {
                _ = served => {}
                () = shutdown.wait() => {}
            }
        });
        check(&process).await.expect("ready");
        readiness.set_draining();
        let refused = check(&process).await.expect_err("draining").to_string();
        assert!(refused.starts_with("not ready: 503"), "{refused}");
        tasks.stop(Duration::from_secs(5)).await;
        let gone = check(&process).await.expect_err("gone").to_string();
        assert!(gone.starts_with("nothing answers at 127.0.0.1:"), "{gone}");
    }
}

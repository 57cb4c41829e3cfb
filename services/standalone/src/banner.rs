//! What the start prints: where Parlor is, and three things to try.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use chassis::host::Addresses;
use chassis::profile::Profile;

/// Prints the addresses, the profile and where the data is; in development, three things to try as well.
pub fn print(profile: Profile, data: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let mut text = places(profile, data, addresses);
    if profile.is_development() {
        text.push_str(&examples(addresses));
    }
    std::io::stdout().write_all(text.as_bytes()).context("standard output is closed")
}

fn address(addresses: &Addresses, name: &str) -> String {
    addresses.get(name).map(ToString::to_string).unwrap_or_default()
}

fn places(profile: Profile, data: &Path, addresses: &Addresses) -> String {
    let address = |name: &str| address(addresses, name);
    let (http, grpc, admin) = (address("http"), address("grpc"), address("admin"));
    let data = data.display();
    let reflection = if profile.is_development() { ", with reflection" } else { "" };
    format!(
        r#"
  Parlor is ready  ({profile} profile, data in {data})

    web    http://{http}        REST, WebSocket at /v1/socket, SSE at /v1/events
    docs   http://{http}/docs   every operation, to try out
    grpc   {grpc}               four services{reflection}
    admin  http://{admin}/metrics  /livez  /readyz

"#
    )
}

/// Requests that work in development: registration is open there, and gRPC describes itself.
fn examples(addresses: &Addresses) -> String {
    let (http, grpc) = (address(addresses, "http"), address(addresses, "grpc"));
    format!(
        r#"  Three things to try in another terminal:

    curl -s http://{http}/v1/auth/register -H 'content-type: application/json' \
      -d '{{"username":"ann","password":"correct horse"}}'

    curl -s http://{http}/v1/auth/guest -H 'content-type: application/json' -d '{{"displayName":"Bob"}}'

    grpcurl -plaintext -d '{{"login":"ann","password":"correct horse"}}' {grpc} parlor.auth.v1.AuthService/Login

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_everything_is() {
        let addresses = Addresses::from([
            ("http".to_owned(), ([127, 0, 0, 1], 3000).into()),
            ("grpc".to_owned(), ([127, 0, 0, 1], 50051).into()),
        ]);
        let text = places(Profile::Development, Path::new("data"), &addresses);
        assert!(text.contains("http://127.0.0.1:3000/docs"));
        assert!(text.contains("development profile, data in data"));
        assert!(text.contains("with reflection"));
        assert!(examples(&addresses).contains("127.0.0.1:50051 parlor.auth.v1.AuthService/Login"));
        let production = places(Profile::Production, Path::new("data"), &addresses);
        assert!(!production.contains("reflection"), "{production}");
    }
}

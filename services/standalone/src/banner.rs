//! What the start prints: where Parlor is, and three things to try.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use chassis::host::Addresses;
use chassis::profile::Profile;

/// Prints the addresses, the profile, where the data is, and three things to try.
pub fn print(profile: Profile, data: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text(profile, data, addresses).as_bytes())
        .context("standard output is closed")
}

fn text(profile: Profile, data: &Path, addresses: &Addresses) -> String {
    let address = |name: &str| addresses.get(name).map(ToString::to_string).unwrap_or_default();
    let (http, grpc, admin) = (address("http"), address("grpc"), address("admin"));
    let data = data.display();
    format!(
        r#"
  Parlor is ready  ({profile} profile, data in {data})

    web    http://{http}        REST, WebSocket at /v1/socket, SSE at /v1/events
    docs   http://{http}/docs   every operation, to try out
    grpc   {grpc}               four services, with reflection in development
    admin  http://{admin}/metrics  /livez  /readyz

  Three things to try in another terminal:

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
        let text = text(Profile::Development, Path::new("data"), &addresses);
        assert!(text.contains("http://127.0.0.1:3000/docs"));
        assert!(text.contains("127.0.0.1:50051 parlor.auth.v1.AuthService/Login"));
        assert!(text.contains("development profile, data in data"));
    }
}

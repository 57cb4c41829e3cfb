//! Generates the implementations of `Rpc`: every unary rpc is known by the type of its request.

use std::collections::BTreeMap;

use anyhow::ensure;
use prost_reflect::DescriptorPool;

use super::{names, rate};

/// One implementation per unary rpc, as Rust code. Refuses a request type that two rpcs share.
pub fn generate(pool: &DescriptorPool) -> anyhow::Result<String> {
    let rates = rate::implementations(pool)?;
    let mut code = BTreeMap::new();
    for service in pool.services().filter(|service| service.package_name().starts_with("parlor.")) {
        for method in service.methods() {
            if method.is_client_streaming() || method.is_server_streaming() {
                continue;
            }
            let (request, response) = (names::message(&method.input()), names::message(&method.output()));
            let path = format!("/{}/{}", service.full_name(), method.name());
            let rate = rates.get(&path).map(String::as_str).unwrap_or_default();
            let implementation = format!(
                "impl Rpc for {request} {{\n    type Response = {response};\n    const PATH: &'static str = {path:?};\n{rate}}}\n"
            );
            let other = code.insert(request, implementation);
            ensure!(other.is_none(), "{} is the request of more than one rpc", method.input().full_name());
        }
    }
    Ok(code.into_values().collect())
}

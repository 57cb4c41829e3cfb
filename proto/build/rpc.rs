//! Generates the implementations of `Rpc`: every unary rpc is known by the type of its request.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use prost_reflect::DescriptorPool;

use super::names;

/// One implementation per unary rpc, as Rust code. Refuses a request type that two rpcs share.
pub fn generate(pool: &DescriptorPool) -> anyhow::Result<String> {
    let rate = pool.get_extension_by_name("parlor.options.v1.rate").context("rpcs have no rate")?;
    let mut code = BTreeMap::new();
    for service in pool.services().filter(|service| service.package_name().starts_with("parlor.")) {
        for method in service.methods() {
            if method.is_client_streaming() || method.is_server_streaming() {
                continue;
            }
            let (request, response) = (names::message(&method.input()), names::message(&method.output()));
            let path = format!("/{}/{}", service.full_name(), method.name());
            let rate = match method.options().has_extension(&rate) {
                true => "Some(crate::rate::RatedRequest::request_rate(self))",
                false => "None",
            };
            let implementation = format!(
                "impl Rpc for {request} {{\n    type Response = {response};\n    const PATH: &'static str = {path:?};\n    fn rate(&self) -> Option<RequestRate> {{ {rate} }}\n}}\n"
            );
            let other = code.insert(request, implementation);
            ensure!(other.is_none(), "{} is the request of more than one rpc", method.input().full_name());
        }
    }
    Ok(code.into_values().collect())
}

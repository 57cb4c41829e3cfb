//! Generates how the tests of all inputs of rpcs read and check one.

use prost_reflect::DescriptorPool;

use super::names;

/// The inputs of rpcs by name.
pub fn generate(pool: &DescriptorPool) -> String {
    let mut inputs: Vec<_> = pool
        .services()
        .flat_map(|service| service.methods().map(|method| method.input()).collect::<Vec<_>>())
        .filter(|input| input.package_name().starts_with("parlor."))
        .collect();
    inputs.sort_unstable_by(|one, other| one.full_name().cmp(other.full_name()));
    inputs.dedup();
    let arm = |input: &prost_reflect::MessageDescriptor| {
        let (name, path) = (input.full_name(), names::message(input));
        format!("{name:?} => {path}::decode(bytes).map(|message| message.check()).ok(),\n")
    };
    let arms: String = inputs.iter().map(arm).collect();
    format!(
        "/// The rules that an encoded input of an rpc breaks; `None` for what is none.\n\
         pub(crate) fn check_input(name: &str, bytes: &[u8]) -> Option<Vec<Violation>> {{\n\
         match name {{\n{arms}_ => None,\n}}\n}}\n"
    )
}

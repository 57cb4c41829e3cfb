//! The Rust names of what the contract names, as the code generator chooses them.

use prost_reflect::{MessageDescriptor, OneofDescriptor};

/// The path of a message's type.
pub fn message(message: &MessageDescriptor) -> String {
    format!("{}::{}", scope(message), message.name())
}

/// The path of the enum that a oneof becomes.
pub fn oneof(oneof: &OneofDescriptor) -> String {
    format!("{}::{}", inside(oneof.parent_message()), camel(oneof.name()))
}

/// The name of a struct's field.
pub fn field(name: &str) -> String {
    const KEYWORDS: [&str; 16] = [
        "as", "async", "await", "box", "const", "dyn", "else", "enum", "fn", "for", "in", "match", "move",
        "ref", "type", "use",
    ];
    if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}

/// `snake_case` as `CamelCase`.
pub fn camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}

/// `CamelCase` as `snake_case`.
pub fn snake(name: &str) -> String {
    let mut result = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !result.is_empty() {
            result.push('_');
        }
        result.push(letter.to_ascii_lowercase());
    }
    result
}

/// The module that a message's type is in.
fn scope(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        Some(parent) => inside(&parent),
        None => {
            let package = message.package_name();
            format!("crate::{}", package.strip_prefix("parlor.").unwrap_or(package).replace('.', "::"))
        }
    }
}

/// The module of the types that are declared inside a message.
fn inside(message: &MessageDescriptor) -> String {
    format!("{}::{}", scope(message), snake(message.name()))
}

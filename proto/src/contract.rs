//! Tests of the contract itself: what its comments promise is there.

use prost_reflect::{EnumDescriptor, MethodDescriptor};

use crate::pool;

/// The comment above an rpc, in one line.
fn comment(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == method.path()));
    let text = location.map(|location| location.leading_comments().to_owned()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The reasons that a comment names: `Fails with X, Y (which one), Z.`
fn reasons(comment: &str) -> Vec<String> {
    let Some((_, list)) = comment.split_once("Fails with ") else { return Vec::new() };
    list.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'))
        .filter(|word| word.len() > 2)
        .map(str::to_owned)
        .collect()
}

fn error_reasons(package: &str) -> EnumDescriptor {
    match pool().get_enum_by_name(&format!("{package}.ErrorReason")) {
        Some(reasons) => reasons,
        None => panic!("{package} has no ErrorReason"),
    }
}

fn methods() -> impl Iterator<Item = MethodDescriptor> {
    pool().services().flat_map(|service| service.methods().collect::<Vec<_>>())
}

#[test]
fn every_reason_that_an_rpc_names_exists() {
    let mut named = 0;
    for method in methods() {
        let known = error_reasons(method.parent_service().package_name());
        for reason in reasons(&comment(&method)) {
            let exists = known.get_value_by_name(&format!("ERROR_REASON_{reason}")).is_some();
            assert!(exists, "{} fails with {reason}, which is no reason of its package", method.full_name());
            named += 1;
        }
    }
    assert!(named > 50, "the comments are not where they were: found {named} reasons");
}

#[test]
fn every_package_refuses_invalid_fields_by_the_same_name() {
    for method in methods() {
        let known = error_reasons(method.parent_service().package_name());
        assert!(known.get_value_by_name("ERROR_REASON_INVALID_FIELD").is_some(), "{}", known.full_name());
    }
}

#[test]
fn every_rpc_and_field_has_a_sentence() {
    for method in methods() {
        assert!(!comment(&method).is_empty(), "{} has no comment", method.full_name());
    }
    let ours = pool().files().filter(|file| file.package_name().starts_with("parlor."));
    for file in ours {
        let info = file.file_descriptor_proto().source_code_info.as_ref();
        let commented = |path: &[i32]| {
            info.is_some_and(|info| {
                info.location
                    .iter()
                    .any(|location| location.path == path && !location.leading_comments().is_empty())
            })
        };
        for message in file.messages() {
            assert!(commented(message.path()), "{} has no comment", message.full_name());
            for field in message.fields() {
                assert!(commented(field.path()), "{} has no comment", field.full_name());
            }
        }
    }
}

#[test]
fn reasons_are_found_in_a_comment() {
    let comment =
        "Does a thing. Ends with UNAVAILABLE. Fails with ONE_REASON, OTHER (the one replied to), LAST.";
    assert_eq!(reasons(comment), ["ONE_REASON", "OTHER", "LAST"]);
    assert_eq!(reasons("Does a thing."), Vec::<String>::new());
}

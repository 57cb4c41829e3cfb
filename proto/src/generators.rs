//! Tests of what the build refuses: the generators of the build, run on small contracts that are wrong.

#[path = "../build/examples.rs"]
mod examples;
#[path = "../build/names.rs"]
mod names;
#[path = "../build/policy.rs"]
mod policy;
#[path = "../build/rate.rs"]
mod rate;
#[path = "../build/validation.rs"]
mod validation;

use crate::placeholders;
use prost_reflect::DescriptorPool;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// A file that exists only here.
struct Memory(String);

impl FileResolver for Memory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "wrong.proto" => File::from_source(name, &self.0),
            other => Err(protox::Error::file_not_found(other)),
        }
    }
}

fn compile(body: &str) -> anyhow::Result<DescriptorPool> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Memory(format!(
        r#"syntax = "proto3";
        package parlor.wrong.v1;
        import "buf/validate/validate.proto";
        import "google/api/annotations.proto";
        import "google/protobuf/duration.proto";
        import "parlor/options/v1/policy.proto";
        message In {{}}
        message Out {{}}
        {body}"#
    )));
    resolver.add(IncludeFileResolver::new(env!("CARGO_MANIFEST_DIR").into()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("wrong.proto")?;
    Ok(DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice())?)
}

fn field_refused(field: &str) -> anyhow::Result<String> {
    let pool = compile(&format!("message M {{ {field} }}"))?;
    Ok(match validation::generate(&pool) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => format!("{error:#}"),
    })
}

fn method_refused(method: &str) -> anyhow::Result<String> {
    let pool = compile(&format!("service S {{ {method} }}"))?;
    Ok(match policy::generate(&pool) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => format!("{error:#}"),
    })
}

fn policy_refused(policy: &str, http: bool) -> anyhow::Result<String> {
    let http = if http { format!("{HTTP} {}", example("{}")) } else { String::new() };
    method_refused(&format!(
        "rpc Do(In) returns (Out) {{ {http} option (parlor.options.v1.policy) = {{{policy}}}; }}"
    ))
}

const HTTP: &str = r#"option (google.api.http) = {get: "/v1/do"};"#;

fn example(request: &str) -> String {
    format!("option (parlor.options.v1.example) = {{request: '{request}'}};")
}

fn examples_refused(options: &str) -> anyhow::Result<String> {
    let pool = compile(&format!(
        "message Ask {{ string user_id = 1; google.protobuf.Duration span = 2; }}
        service S {{ rpc Do(Ask) returns (Out) {{
            option (parlor.options.v1.policy) = {{access: ACCESS_USER}};
            {options}
        }} }}"
    ))?;
    Ok(match policy::generate(&pool) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => format!("{error:#}"),
    })
}

#[test]
fn rules_that_do_not_fit_their_field_do_not_build() -> anyhow::Result<()> {
    for (field, complaint) in [
        ("string a = 1 [(buf.validate.field).int32.gte = 0];", "`int32` does not fit"),
        ("int64 a = 1 [(buf.validate.field).int32.gte = 0];", "`int32` does not fit"),
        ("repeated string a = 1 [(buf.validate.field).string.uuid = true];", "`string` does not fit"),
        ("string a = 1 [(buf.validate.field).repeated.min_items = 1];", "`repeated` does not fit"),
        ("In a = 1 [(buf.validate.field).duration.gte = {}];", "`duration` does not fit"),
        (
            "repeated double a = 1 [(buf.validate.field).repeated.unique = true];",
            "`repeated.unique` does not fit",
        ),
        (
            "repeated In a = 1 [(buf.validate.field).repeated.items.required = true];",
            "`required` says nothing",
        ),
        ("map<string, string> a = 1 [(buf.validate.field).map.keys.int32.gte = 0];", "`int32` does not fit"),
        ("int32 a = 1 [(buf.validate.field).int32 = {gte: 5 lte: 4}];", "leave no value"),
        (
            "google.protobuf.Duration a = 1 [(buf.validate.field).duration.lte = {nanos: 1}];",
            "not a whole number of seconds",
        ),
    ] {
        let refused = field_refused(field)?;
        assert!(refused.contains("the rules of parlor.wrong.v1.M.a"), "{field}: {refused}");
        assert!(refused.contains(complaint), "{field}: {refused}");
    }
    Ok(())
}

#[test]
fn rules_that_have_no_code_do_not_build() {
    let refused = compile("message M { string a = 1 [(buf.validate.field).string.suffix = \"x\"]; }");
    assert!(refused.is_err(), "a rule that validate.proto does not name was accepted");
}

#[test]
fn a_rule_that_validate_proto_gains_needs_code() -> anyhow::Result<()> {
    // validate.proto as it would be after somebody added a rule to it.
    let mut files = compile("message M { string a = 1 [(buf.validate.field).string.min_len = 1]; }")?
        .file_descriptor_protos()
        .cloned()
        .collect::<Vec<_>>();
    assert!(!files.is_empty());
    let validate = files.iter_mut().find(|file| file.name() == "buf/validate/validate.proto");
    let rules = validate
        .and_then(|file| file.message_type.iter_mut().find(|message| message.name() == "StringRules"));
    let rule = rules.and_then(|rules| rules.field.iter_mut().find(|field| field.name() == "min_len"));
    let Some(rule) = rule else { panic!("validate.proto has no StringRules.min_len") };
    rule.name = Some("shortest".to_owned());
    rule.json_name = Some("shortest".to_owned());

    // The options of the file are extensions, which the plain descriptors have lost: they come from the first pool.
    let mut set = DescriptorPool::new();
    set.add_file_descriptor_protos(files.into_iter().filter(|file| file.name() != "wrong.proto"))?;
    let wrong = compile("message M { string a = 1 [(buf.validate.field).string.min_len = 1]; }")?;
    let Some(wrong) = wrong.get_file_by_name("wrong.proto") else { panic!("the file is gone") };
    set.decode_file_descriptor_proto(wrong.encode_to_vec().as_slice())?;

    let Err(refused) = validation::generate(&set) else { panic!("accepted") };
    let refused = format!("{refused:#}");
    assert!(refused.contains("parlor.wrong.v1.M.a") && refused.contains("`string.shortest`"), "{refused}");
    Ok(())
}

#[test]
fn contradictory_policies_do_not_build() -> anyhow::Result<()> {
    for (policy, http, complaint) in [
        ("", true, "has no access"),
        ("access: ACCESS_SERVICE", false, "lists none"),
        ("access: ACCESS_SERVICE services: \"gateway\"", true, "has an HTTP rule"),
        ("access: ACCESS_USER", false, "has no HTTP rule"),
        ("access: ACCESS_USER relation: RELATION_OWNER", true, "a relation and no refusal"),
        ("access: ACCESS_USER refusal: REFUSAL_NOT_FOUND", true, "a refusal and no relation"),
    ] {
        let refused = policy_refused(policy, http)?;
        assert!(refused.contains("the policy of parlor.wrong.v1.S.Do"), "{policy}: {refused}");
        assert!(refused.contains(complaint), "{policy}: {refused}");
    }
    assert_eq!(policy_refused("access: ACCESS_USER", true)?, "accepted");
    Ok(())
}

#[test]
fn an_rpc_without_a_policy_does_not_build() -> anyhow::Result<()> {
    let refused = method_refused("rpc Do(In) returns (Out);")?;
    assert!(refused.contains("the policy of parlor.wrong.v1.S.Do: is missing"), "{refused}");
    Ok(())
}

#[test]
fn examples_that_could_not_be_sent_do_not_build() -> anyhow::Result<()> {
    for (request, complaint) in [
        ("{", "it is not JSON"),
        ("[]", "expected a map"),
        (r#"{"userId": 5}"#, "expected a string"),
        (r#"{"colour": "red"}"#, "unrecognized field name 'colour'"),
        (r#"{"span": "long"}"#, "failed to parse duration"),
        (r#"{"userId": "$nobody"}"#, "nothing is known of $nobody"),
        (r#"{"userId": "$"}"#, "nothing is known of $"),
    ] {
        let refused = examples_refused(&format!("{HTTP} {}", example(request)))?;
        assert!(refused.contains("parlor.wrong.v1.S.Do: cannot be sent"), "{request}: {refused}");
        assert!(refused.contains(complaint), "{request}: {refused}");
    }
    for request in ["{}", r#"{"userId": "$user", "span": "1.5s"}"#] {
        assert_eq!(examples_refused(&format!("{HTTP} {}", example(request)))?, "accepted");
    }
    Ok(())
}

#[test]
fn what_is_reached_over_http_has_examples() -> anyhow::Result<()> {
    let titled =
        |title: &str| format!("option (parlor.options.v1.example) = {{title: '{title}' request: '{{}}'}};");
    for (options, complaint) in [
        (HTTP.to_owned(), "has an HTTP rule and no example"),
        (format!("{HTTP} {}{}", titled("one"), example("{}")), "is one of several and has no title"),
        (format!("{HTTP} {}{}", titled("one"), titled("one")), "has the title of another: one"),
    ] {
        let refused = examples_refused(&options)?;
        assert!(refused.contains("parlor.wrong.v1.S.Do") && refused.contains(complaint), "{refused}");
    }
    assert_eq!(examples_refused(&format!("{HTTP} {}{}", titled("one"), titled("two")))?, "accepted");
    let refused = method_refused(&format!(
        "rpc Do(In) returns (Out) {{ option (parlor.options.v1.policy) = {{access: ACCESS_SERVICE services: 'auth'}}; {} }}",
        example("{}")
    ))?;
    assert!(refused.contains("has an example and no HTTP rule"), "{refused}");
    Ok(())
}

#[test]
fn a_stream_needs_no_http_rule() -> anyhow::Result<()> {
    let accepted = method_refused(
        "rpc Do(In) returns (stream Out) { option (parlor.options.v1.policy) = {access: ACCESS_USER}; }",
    )?;
    assert_eq!(accepted, "accepted");
    Ok(())
}

/// Compiles an rpc with this policy, HTTP rule and rate.
fn rate_refused(policy: &str, http: &str, rate: &str) -> anyhow::Result<String> {
    let pool = compile(&format!(
        "message Ask {{ string conversation_id = 1; repeated string user_ids = 2; int32 number = 3; }}
        service S {{ rpc Do(Ask) returns (Out) {{
            option (parlor.options.v1.policy) = {{{policy}}};
            {http}
            {rate}
        }} }}"
    ))?;
    Ok(match rate::generate(&pool) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => format!("{error:#}"),
    })
}

fn rate_option(rate: &str) -> String {
    format!("option (parlor.options.v1.rate) = {{{rate}}};")
}

const POST: &str = r#"option (google.api.http) = {post: "/v1/do" body: "*"};"#;

#[test]
fn an_rpc_of_clients_without_a_rate_does_not_build() -> anyhow::Result<()> {
    for (policy, http) in [
        ("access: ACCESS_USER", POST),
        ("access: ACCESS_USER", ""),
        ("access: ACCESS_ACCOUNT", ""),
        ("access: ACCESS_ANYONE", ""),
    ] {
        let refused = rate_refused(policy, http, "")?;
        assert!(refused.contains("the rate of parlor.wrong.v1.S.Do: is missing"), "{refused}");
    }
    assert_eq!(rate_refused("access: ACCESS_SERVICE services: 'gateway'", "", "")?, "accepted");
    Ok(())
}

#[test]
fn contradictory_rates_do_not_build() -> anyhow::Result<()> {
    let (user, anyone) = ("access: ACCESS_USER", "access: ACCESS_ANYONE");
    for (policy, http, rate, complaint) in [
        (user, POST, "", "has no class"),
        ("access: ACCESS_SERVICE services: 'auth'", "", "class: RATE_CLASS_GUEST", "has services only"),
        (user, POST, "class: RATE_CLASS_LOGIN", "counts per address and is for users"),
        (anyone, POST, "class: RATE_CLASS_HEAVY", "counts per user and is not for users only"),
        (user, HTTP, "class: RATE_CLASS_WRITE", "is GET, which changes nothing"),
        (
            user,
            r#"option (google.api.http) = {delete: "/v1/do"};"#,
            "class: RATE_CLASS_READ",
            "reads and is delete",
        ),
        (user, POST, "class: RATE_CLASS_SEND", "names a conversation exactly when it sends"),
        (
            user,
            POST,
            "class: RATE_CLASS_WRITE conversation_field: 'conversation_id'",
            "names a conversation exactly when it sends",
        ),
        (user, POST, "class: RATE_CLASS_SEND conversation_field: 'room'", "names room, which is no field"),
        (user, POST, "class: RATE_CLASS_SEND conversation_field: 'user_ids'", "not the id of a conversation"),
        (user, POST, "class: RATE_CLASS_SEND conversation_field: 'number'", "not the id of a conversation"),
        (user, POST, "class: RATE_CLASS_READ search_fields: 'number'", "a search and is not heavy"),
        (user, POST, "class: RATE_CLASS_HEAVY search_fields: 'word'", "names word, which is no field"),
        (user, POST, "class: RATE_CLASS_HEAVY search_fields: ['number', 'number']", "has number twice"),
    ] {
        let refused = rate_refused(policy, http, &rate_option(rate))?;
        assert!(refused.contains("the rate of parlor.wrong.v1.S.Do: "), "{rate}: {refused}");
        assert!(refused.contains(complaint), "{rate}: {refused}");
    }
    for (policy, http, rate) in [
        (user, HTTP, "class: RATE_CLASS_READ"),
        (user, POST, "class: RATE_CLASS_READ"),
        (user, "", "class: RATE_CLASS_READ"),
        (user, HTTP, "class: RATE_CLASS_HEAVY search_fields: ['number', 'user_ids']"),
        (user, POST, "class: RATE_CLASS_SEND conversation_field: 'conversation_id'"),
        (anyone, POST, "class: RATE_CLASS_LOGIN"),
        ("access: ACCESS_SERVICE services: 'gateway'", "", "class: RATE_CLASS_GUEST"),
    ] {
        assert_eq!(rate_refused(policy, http, &rate_option(rate))?, "accepted", "{rate}");
    }
    Ok(())
}

#[test]
fn a_request_has_the_rate_of_one_rpc() -> anyhow::Result<()> {
    let rpc = |name: &str| {
        format!(
            "rpc {name}(In) returns (Out) {{ option (parlor.options.v1.policy) = {{access: ACCESS_USER}}; {HTTP} {} }}",
            rate_option("class: RATE_CLASS_READ")
        )
    };
    let pool = compile(&format!("service S {{ {} {} }}", rpc("One"), rpc("Other")))?;
    let Err(refused) = rate::generate(&pool) else { panic!("accepted") };
    assert!(format!("{refused:#}").contains("parlor.wrong.v1.In has one by another rpc"), "{refused:#}");
    Ok(())
}

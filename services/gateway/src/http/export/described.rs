//! The archive in the OpenAPI document.

use serde_json::{Map, Value, json};

/// Returns the operations of the path.
pub(crate) fn described() -> Map<String, Value> {
    let problem = |name: &str| json!({"$ref": format!("#/components/responses/{name}")});
    let operation = json!({
        "operationId": "ExportService_Export",
        "summary": "Everything about oneself, as one archive",
        "description": "A ZIP file with a folder per service: `.json` files hold one value, `.ndjson` files one per line, all \
            in the JSON of this API, and files that were sent are there as they are. It is made while it is sent: one \
            that breaks off cannot be opened.",
        "tags": ["ExportService"],
        "x-authz": {"access": "user", "relation": "self"},
        "parameters": [],
        "responses": {
            "200": {
                "description": "The archive.",
                "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            },
            "401": problem("Problem"),
            "429": problem("Later"),
            "503": problem("Later"),
            "default": problem("Problem"),
        },
    });
    Map::from_iter([("get".to_owned(), operation)])
}

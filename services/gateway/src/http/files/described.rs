//! The content of files in the OpenAPI document: a path that belongs to no rpc.

use serde_json::{Map, Value, json};

/// Returns the operations of the path.
pub(crate) fn described() -> Map<String, Value> {
    let problem = |name: &str| json!({"$ref": format!("#/components/responses/{name}")});
    let bytes = json!({"*/*": {"schema": {"type": "string", "format": "binary"}}});
    let header = |says: &str| json!({"description": says, "schema": {"type": "string"}});
    let parameters = json!([
        {
            "name": "upload_id",
            "in": "path",
            "required": true,
            "description": "The file.",
            "schema": {"type": "string", "format": "uuid"},
            "example": "01937b6e-7c4a-7d3b-9f00-0242ac120002",
        },
        {
            "name": "ticket",
            "in": "query",
            "required": true,
            "description": "The right to do this, as it stands in the address that `CreateUpload` or `GetUpload` gave out.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 512},
        },
    ]);
    let range = json!({
        "name": "range",
        "in": "header",
        "required": false,
        "description": "One part of the file, such as `bytes=0-1023`.",
        "schema": {"type": "string"},
    });
    let mut reading = parameters.clone();
    if let Some(list) = reading.as_array_mut() {
        list.push(range);
    }
    let there = json!({
        "etag": header("The SHA-256 of all bytes, in hexadecimal."),
        "content-disposition": header("`inline` for pictures, films and sound, and `attachment` for everything else."),
        "accept-ranges": header("Always `bytes`."),
    });
    let read = |id: &str, summary: &str, content: Option<&Value>| {
        let answer = |says: &str| {
            let mut answer = json!({"description": says, "headers": there});
            if let Some(content) = content {
                answer["content"] = content.clone();
            }
            answer
        };
        json!({
            "operationId": id,
            "summary": summary,
            "description": "Asks for the ticket of `GetUpload` and nothing else. Fails with TICKET_INVALID, UPLOAD_NOT_FOUND.",
            "tags": ["UploadService"],
            "security": [],
            "x-authz": {"access": "anyone"},
            "parameters": reading,
            "responses": {
                "200": answer("All of it."),
                "206": answer("The part that was asked for."),
                "304": {"description": "It is what `if-none-match` says."},
                "400": problem("Problem"),
                "403": problem("Problem"),
                "404": problem("Problem"),
                "416": problem("Problem"),
                "429": problem("Later"),
                "503": problem("Later"),
                "default": problem("Problem"),
            },
        })
    };
    let write = json!({
        "operationId": "UploadService_PutContent",
        "summary": "Brings the bytes of a file",
        "description": "All bytes in one body, exactly as many as were said. They may pause, but not for half a minute, \
            and come at the least rate on the whole. A ticket has one writer at a time, and a user three. Asks for the \
            ticket of `CreateUpload` and nothing else. Fails with TICKET_INVALID, UPLOAD_NOT_FOUND, UPLOAD_COMPLETE, \
            UPLOAD_INCOMPLETE (fewer or more bytes than were said), UPLOAD_IN_PROGRESS, TOO_MANY_UPLOADS, UPLOAD_QUOTA, \
            UPLOAD_TOO_SLOW.",
        "tags": ["UploadService"],
        "security": [],
        "x-authz": {"access": "anyone"},
        "parameters": parameters,
        "requestBody": {"required": true, "content": bytes},
        "responses": {
            "200": {
                "description": "It is there.",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/messaging.v1.WriteUploadResponse"}},
                },
            },
            "400": problem("Problem"),
            "403": problem("Problem"),
            "404": problem("Problem"),
            "408": problem("Problem"),
            "409": problem("Problem"),
            "413": problem("Problem"),
            "429": problem("Later"),
            "503": problem("Later"),
            "default": problem("Problem"),
        },
    });
    Map::from_iter([
        ("get".to_owned(), read("UploadService_GetContent", "Gives the bytes of a file", Some(&bytes))),
        (
            "head".to_owned(),
            read("UploadService_HeadContent", "Says what a file is, without its bytes", None),
        ),
        ("put".to_owned(), write),
    ])
}

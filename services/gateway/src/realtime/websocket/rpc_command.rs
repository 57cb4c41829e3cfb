//! The command `call`: any public rpc by name, its request and its answer in proto JSON.

use std::net::IpAddr;

use chassis::fault::Fault;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use proto::gateway::v1::{Call, CallReply};
use tonic::Status;

use crate::http::rest::public_rpc;
use crate::json;
use crate::realtime::connection::Connection;
use crate::state::Gateway;
use crate::upstream::clients::OnBehalf;

/// Numbers beyond this are not whole in a double.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A call that may be made.
pub(in crate::realtime) struct Prepared {
    method: MethodDescriptor,
    request: DynamicMessage,
    conversation: Option<String>,
    call: Option<String>,
}

/// Finds the rpc and reads its request. Refuses what is not public, and what comes too often.
pub(in crate::realtime) fn prepare(
    gateway: &Gateway,
    connection: &Connection,
    address: IpAddr,
    call: Call,
) -> Result<Prepared, Fault> {
    let method = public_rpc(&call.method).ok_or_else(|| {
        Fault::invalid(
            "call.method",
            "must be a public rpc, such as `parlor.messaging.v1.MessagingService/EditMessage`",
        )
    })?;
    let body = call.request.map_or_else(|| serde_json::json!({}), object);
    let named = |name: &str, other: &str| {
        body.get(name).or_else(|| body.get(other)).and_then(|id| id.as_str()).map(str::to_owned)
    };
    let conversation = named("conversationId", "conversation_id");
    let call_of_people = named("callId", "call_id");
    let request = json::from_json(&method.input(), body.to_string().as_bytes())?;

    if let Some(rate) = proto::rate::of_method(&method) {
        gateway.limits().attempt(rate.class, address)?;
        gateway.limits().call(rate.request_rate(&request), connection.user_id())?;
    }
    Ok(Prepared { method, request, conversation, call: call_of_people })
}

impl Prepared {
    /// The conversation that the request names.
    pub(in crate::realtime) fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    /// The call of two people that the request names.
    pub(in crate::realtime) fn call_of_people(&self) -> Option<&str> {
        self.call.as_deref()
    }

    /// Makes the call.
    pub(in crate::realtime) async fn carry_out(
        &self,
        gateway: &Gateway,
        on_behalf: &OnBehalf,
    ) -> Result<CallReply, Status> {
        let answer = gateway.clients().call(&self.method, &self.request, on_behalf).await?;
        let answer = serde_json::from_str(&json::to_json(&answer)?).map_err(|_| Fault::internal())?;
        match value(answer).kind {
            Some(Kind::StructValue(response)) => Ok(CallReply { response: Some(response) }),
            _ => Err(Fault::internal().into()),
        }
    }
}

/// As JSON, whole numbers without a fraction: a client may read them into a field that takes no other.
pub(in crate::realtime) fn object(object: Struct) -> serde_json::Value {
    serde_json::Value::Object(object.fields.into_iter().map(|(name, value)| (name, plain(value))).collect())
}

fn plain(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < LARGEST_WHOLE => {
            (value as i64).into()
        }
        Some(Kind::NumberValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(plain).collect(),
        Some(Kind::StructValue(value)) => object(value),
    }
}

fn value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(self::value).collect() })
        }
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, self::value(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}

//! The command `call`: any public rpc by name, its request and its answer in proto JSON.

use chassis::fault::Fault;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use proto::gateway::v1::{Call, CallReply};
use tonic::Status;

use crate::http::rest::public_rpc;
use crate::realtime::Realtime;
use crate::upstream::clients::OnBehalf;
use crate::{json, json_value};

/// A verified call.
pub(in crate::realtime) struct Prepared {
    method: MethodDescriptor,
    request: DynamicMessage,
    conversation: Option<String>,
    call: Option<String>,
}

/// Finds the rpc and reads its request. Refuses an rpc that is not public.
pub(in crate::realtime) fn prepare(call: Call) -> Result<Prepared, Fault> {
    let method = public_rpc(&call.method).ok_or_else(|| {
        Fault::invalid(
            "call.method",
            "must be a public rpc, such as `parlor.messaging.v1.MessagingService/EditMessage`",
        )
    })?;
    let body = call.request.map_or_else(|| serde_json::json!({}), json_value::from_struct);
    let named = |name: &str, other: &str| {
        body.get(name).or_else(|| body.get(other)).and_then(|id| id.as_str()).map(str::to_owned)
    };
    let conversation = named("conversationId", "conversation_id");
    let call_of_people = named("callId", "call_id");
    let request = json::from_json(&method.input(), body.to_string().as_bytes())?;

    Ok(Prepared { method, request, conversation, call: call_of_people })
}

impl Prepared {
    /// Returns the conversation that the request names.
    pub(in crate::realtime) fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    /// Returns the call of two users that the request names.
    pub(in crate::realtime) fn call_of_people(&self) -> Option<&str> {
        self.call.as_deref()
    }

    /// Executes the call.
    pub(in crate::realtime) async fn carry_out(
        &self,
        realtime: &Realtime,
        on_behalf: &OnBehalf,
    ) -> Result<CallReply, Status> {
        let answer = realtime.upstream().clients().call(&self.method, &self.request, on_behalf).await?;
        let answer = serde_json::from_str(&json::to_json(&answer)?).map_err(|_| Fault::internal())?;
        let response = json_value::to_struct(answer).ok_or_else(Fault::internal)?;
        Ok(CallReply { response: Some(response) })
    }
}

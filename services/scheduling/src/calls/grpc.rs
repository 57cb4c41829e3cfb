//! The rpcs of calls: identify, parse, call, render.

use std::pin::Pin;

use chassis::caller::Caller;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::call_service_server::CallService;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Calls;
use super::convert::{self, Query, call_id, device, render, time};
use super::devices::Report;
use super::machine::Act;

type Answer<T> = Result<Response<T>, Status>;

/// The service on the wire.
pub struct CallGrpc {
    calls: Calls,
}

impl CallGrpc {
    /// Serves these use cases.
    pub fn new(calls: Calls) -> Self {
        Self { calls }
    }
}

#[tonic::async_trait]
impl CallService for CallGrpc {
    type StreamCallsStream =
        Pin<Box<dyn Stream<Item = Result<pb::StreamCallsResponse, Status>> + Send + 'static>>;

    async fn start_call(&self, request: Request<pb::StartCallRequest>) -> Answer<pb::StartCallResponse> {
        let device = device(&Caller::of(&request)?)?;
        let begun = self.calls.begin(device, request.into_inner().try_into()?).await?;
        Ok(Response::new(convert::begun(&begun, device.user)))
    }

    async fn accept_call(&self, request: Request<pb::AcceptCallRequest>) -> Answer<pb::AcceptCallResponse> {
        let device = device(&Caller::of(&request)?)?;
        let call = self.calls.accept(device, call_id(&request.get_ref().call_id)?).await?;
        Ok(Response::new(pb::AcceptCallResponse { call: Some(render(&call, device.user)) }))
    }

    async fn reject_call(&self, request: Request<pb::RejectCallRequest>) -> Answer<pb::RejectCallResponse> {
        let device = device(&Caller::of(&request)?)?;
        let call = self.calls.reject(device, call_id(&request.get_ref().call_id)?).await?;
        Ok(Response::new(pb::RejectCallResponse { call: Some(render(&call, device.user)) }))
    }

    async fn end_call(&self, request: Request<pb::EndCallRequest>) -> Answer<pb::EndCallResponse> {
        let device = device(&Caller::of(&request)?)?;
        let call = self.calls.end(device, call_id(&request.get_ref().call_id)?).await?;
        Ok(Response::new(pb::EndCallResponse { call: Some(render(&call, device.user)) }))
    }

    async fn mark_call_connected(
        &self,
        request: Request<pb::MarkCallConnectedRequest>,
    ) -> Answer<pb::MarkCallConnectedResponse> {
        let (device, request) = (device(&Caller::of(&request)?)?, request.into_inner());
        let act = Act::Connected(device, time(request.time.as_ref())?);
        let call = self.calls.act(call_id(&request.call_id)?, act).await?;
        Ok(Response::new(pb::MarkCallConnectedResponse { call: Some(render(&call, device.user)) }))
    }

    async fn mark_call_disconnected(
        &self,
        request: Request<pb::MarkCallDisconnectedRequest>,
    ) -> Answer<pb::MarkCallDisconnectedResponse> {
        let (device, request) = (device(&Caller::of(&request)?)?, request.into_inner());
        let act = Act::Disconnected(device, time(request.time.as_ref())?);
        let call = self.calls.act(call_id(&request.call_id)?, act).await?;
        Ok(Response::new(pb::MarkCallDisconnectedResponse { call: Some(render(&call, device.user)) }))
    }

    async fn relay_signal(
        &self,
        request: Request<pb::RelaySignalRequest>,
    ) -> Answer<pb::RelaySignalResponse> {
        let (device, request) = (device(&Caller::of(&request)?)?, request.into_inner());
        self.calls.relay(device, call_id(&request.call_id)?, request.payload).await?;
        Ok(Response::new(pb::RelaySignalResponse {}))
    }

    async fn get_call(&self, request: Request<pb::GetCallRequest>) -> Answer<pb::GetCallResponse> {
        let user = Caller::of(&request)?.user_id;
        let call = self.calls.get(user, call_id(&request.get_ref().call_id)?).await?;
        Ok(Response::new(pb::GetCallResponse { call: Some(render(&call, user)) }))
    }

    async fn list_calls(&self, request: Request<pb::ListCallsRequest>) -> Answer<pb::ListCallsResponse> {
        let caller = Caller::of(&request)?;
        let query = Query::parse(caller.user_id, request.get_ref())?;
        let listed = self.calls.list_named(query.listing.clone(), &query.keyword).await?;
        Ok(Response::new(query.answer(&listed)))
    }

    async fn report_devices(
        &self,
        request: Request<pb::ReportDevicesRequest>,
    ) -> Answer<pb::ReportDevicesResponse> {
        let report = Report::try_from(request.into_inner())?;
        self.calls.report(&report).await?;
        Ok(Response::new(pb::ReportDevicesResponse {}))
    }

    async fn stream_calls(
        &self,
        request: Request<pb::StreamCallsRequest>,
    ) -> Answer<Self::StreamCallsStream> {
        let device = device(&Caller::of(&request)?)?;
        let stream = self.calls.stream(device).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}

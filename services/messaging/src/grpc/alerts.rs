//! The rpcs of alerts.

use std::collections::BTreeSet;

use chassis::caller::Caller;
use chassis::page;
use proto::id::{AlertId, InvalidId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::alert_service_server::AlertService;
use tonic::Request;

use super::{Answer, Api, Response, small};
use crate::alert::News;
use crate::alerts::Which;
use crate::error::Error;

#[tonic::async_trait]
impl AlertService for Api {
    async fn list_alerts(&self, request: Request<pb::ListAlertsRequest>) -> Answer<pb::ListAlertsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let limit = page::size(request.page_size);
        let kinds = request.kinds().chain([request.kind()]);
        let kinds = kinds.filter(|kind| *kind != pb::AlertKind::Unspecified).collect();
        let (only_unread, token) = (request.only_unread, &request.page_token);
        let page = self.messaging.alerts(caller.user_id, only_unread, kinds, limit, token).await?;
        let messages = page.alerts.iter().filter_map(|(_, message)| message.as_ref());
        let viewer = self.messaging.viewer(caller.user_id, messages).await?;
        let alerts = page.alerts.into_iter().map(|(alert, message)| pb::Alert {
            message: message.map(|message| viewer.show(message)),
            ..pb::Alert::from(&alert)
        });
        Ok(Response::new(pb::ListAlertsResponse {
            alerts: alerts.collect(),
            next_page_token: page.next,
            unread_count: small(page.unread),
        }))
    }

    async fn mark_alerts(&self, request: Request<pb::MarkAlertsRequest>) -> Answer<pb::MarkAlertsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let which = Which::try_from(&request)?;
        let unread = self.messaging.mark_alerts(caller.user_id, which, !request.unread).await?;
        Ok(Response::new(pb::MarkAlertsResponse { unread_count: small(unread) }))
    }

    async fn raise_alert(&self, request: Request<pb::RaiseAlertRequest>) -> Answer<pb::RaiseAlertResponse> {
        let news = News::parse(request.get_ref(), self.messaging.clock.now())?;
        let alert = self.messaging.raise_alert(&news).await?;
        Ok(Response::new(pb::RaiseAlertResponse { alert: alert.as_ref().map(pb::Alert::from) }))
    }
}

impl TryFrom<&pb::MarkAlertsRequest> for Which {
    type Error = Error;

    fn try_from(request: &pb::MarkAlertsRequest) -> Result<Self, Error> {
        let invalid = |rule| Error::Invalid { field: "alert_ids", rule };
        match (request.all, request.alert_ids.as_slice()) {
            (true, []) => Ok(Self::All),
            (true, _) => Err(invalid("must be empty when all is set")),
            (false, []) => Err(invalid("must be given, unless all is set")),
            (false, ids) => {
                let ids: Result<BTreeSet<_>, _> = ids.iter().map(|id| AlertId::parse(id)).collect();
                Ok(Self::These(ids.map_err(|InvalidId| invalid("must be UUIDs"))?))
            }
        }
    }
}

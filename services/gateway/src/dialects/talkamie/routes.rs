//! The table of operations by method and path.

use http::Method;
use proto::messaging::v1::InboxFilter;
use proto::scheduling::v1::ScheduleFilter;

/// An operation of this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    // Without a token.
    SignUp,
    SignIn,
    Refresh,
    GenerateOtp,
    VerifyOtp,
    /// With an address to search for also without a token.
    ListUsers,
    // With a token.
    GetUserByToken,
    SignOut,
    ListAlerts,
    GetCustomAvailability,
    SetCustomAvailability,
    GetWeeklyAvailability,
    SetWeeklyAvailability,
    GetCall,
    ListCalls,
    GetChat,
    ListMessages,
    ListChats(InboxFilter),
    ListPendingConnections,
    ListConnections,
    ListInterests,
    ListOwnReviews,
    GetSchedule,
    UpdateSchedule,
    DeleteSchedule,
    ListSchedules(ScheduleFilter),
    GetUser,
    UpdateUser,
    DeleteUser,
    ChangePassword,
    RequestBackgroundCheck,
    ScheduleCall,
    ClearSchedules,
    SendConnectionRequest,
    CancelConnectionRequest,
    AcceptConnectionRequest,
    RejectConnectionRequest,
    SendMessageRequest,
    CancelMessageRequest,
    AcceptMessageRequest,
    RejectMessageRequest,
    ListReviews,
    WriteReview,
    UpdateReview,
    DeleteReview,
}

/// The methods of the operations.
const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::DELETE];

impl Operation {
    /// Returns the operation at a path below the base, in lower case. Placeholders of ids match any text.
    pub(super) fn find(method: &Method, path: &[&str]) -> Option<Self> {
        match *method {
            Method::GET => Self::of_get(path),
            Method::POST => Self::of_post(path),
            Method::PUT => Self::of_put(path),
            Method::DELETE => Self::of_delete(path),
            _ => None,
        }
    }

    /// Returns the methods of a path.
    pub(super) fn methods(path: &[&str]) -> Vec<Method> {
        METHODS.into_iter().filter(|method| Self::find(method, path).is_some()).collect()
    }

    fn of_get(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["alerts"] => Self::ListAlerts,
            ["auth"] => Self::GetUserByToken,
            ["auth", "refresh"] => Self::Refresh,
            ["availability", "custom"] => Self::GetCustomAvailability,
            ["availability", "weekly"] => Self::GetWeeklyAvailability,
            ["call", _] => Self::GetCall,
            ["calls", "histories"] => Self::ListCalls,
            ["chat", _] => Self::GetChat,
            ["chat", _, "messages"] => Self::ListMessages,
            ["chats"] => Self::ListChats(InboxFilter::Unspecified),
            ["chats", "frequent"] => Self::ListChats(InboxFilter::Frequent),
            ["chats", "unread"] => Self::ListChats(InboxFilter::Unread),
            ["connections" | "connect-requests", "pending"] => Self::ListPendingConnections,
            ["connections" | "connect-requests", "users"] => Self::ListConnections,
            ["interests"] => Self::ListInterests,
            ["reviews"] => Self::ListOwnReviews,
            ["schedule", _] => Self::GetSchedule,
            ["schedules"] => Self::ListSchedules(ScheduleFilter::Unspecified),
            ["schedules", "past"] => Self::ListSchedules(ScheduleFilter::Past),
            ["schedules", "upcoming"] => Self::ListSchedules(ScheduleFilter::Upcoming),
            ["user", _] => Self::GetUser,
            ["user", _, "reviews"] => Self::ListReviews,
            ["users"] => Self::ListUsers,
            _ => return None,
        })
    }

    fn of_post(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["auth", "sign-up"] => Self::SignUp,
            ["auth", "sign-in"] => Self::SignIn,
            ["auth", "refresh"] => Self::Refresh,
            ["availability", "custom"] => Self::SetCustomAvailability,
            ["availability", "weekly"] => Self::SetWeeklyAvailability,
            ["otp"] => Self::GenerateOtp,
            ["otp", "verify"] => Self::VerifyOtp,
            ["user", _, "background-check"] => Self::RequestBackgroundCheck,
            ["user", _, "schedule"] => Self::ScheduleCall,
            ["user", _, "connection"] => Self::SendConnectionRequest,
            ["user", _, "connection", "accept"] => Self::AcceptConnectionRequest,
            ["user", _, "message", "request"] => Self::SendMessageRequest,
            ["user", _, "message", "request", "accept"] => Self::AcceptMessageRequest,
            ["user", _, "review"] => Self::WriteReview,
            _ => return None,
        })
    }

    fn of_put(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["schedule", _] => Self::UpdateSchedule,
            ["user", _] => Self::UpdateUser,
            ["user", _, "password"] => Self::ChangePassword,
            ["user", _, "review"] => Self::UpdateReview,
            _ => return None,
        })
    }

    fn of_delete(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["auth", "sign-out"] => Self::SignOut,
            ["schedule", _] => Self::DeleteSchedule,
            ["user", _] => Self::DeleteUser,
            ["user", _, "schedules"] => Self::ClearSchedules,
            ["user", _, "connection"] => Self::CancelConnectionRequest,
            ["user", _, "connection", "reject"] => Self::RejectConnectionRequest,
            ["user", _, "message", "request"] => Self::CancelMessageRequest,
            ["user", _, "message", "request", "reject"] => Self::RejectMessageRequest,
            ["user", _, "review"] => Self::DeleteReview,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_methods() {
        for (path, methods) in [
            (&["user", "x"][..], &[Method::GET, Method::PUT, Method::DELETE][..]),
            (&["user", "x", "review"], &[Method::POST, Method::PUT, Method::DELETE]),
            (&["user", "x", "message", "request", "reject"], &[Method::DELETE]),
            (&["auth", "refresh"], &[Method::GET, Method::POST]),
            (&["connect-requests", "users"], &[Method::GET]),
            (&["user"], &[]),
            (&["chats", "x"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(Operation::methods(path), methods, "{path:?}");
        }
        assert_eq!(Operation::find(&Method::PATCH, &["user", "x"]), None);
    }
}

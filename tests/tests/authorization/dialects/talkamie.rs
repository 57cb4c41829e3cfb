//! Talkamie: REST, and the actions on its socket. It has direct conversations only.

use crate::case::Case;
use crate::role::{DENIED, Expected, NOT_FOUND, Role, UNAUTHENTICATED};

use super::{Dialect, Operation, operation};

pub const DIALECT: Dialect = Dialect {
    name: "talkamie",
    operations: OPERATIONS,
    acts_without_token: None,
    serves_anonymous_viewers: false,
    exception,
};

const OPERATIONS: &[Operation] = &[
    operation(
        "sign up",
        "auth.v1.AuthService/Register",
        r#"{"POST":["talkamie","v1","auth","sign-up"],"body":{"email":"$unused_email","password":"$password","name":"Ann"}}"#,
    ),
    operation(
        "sign in",
        "auth.v1.AuthService/Login",
        r#"{"POST":["talkamie","v1","auth","sign-in"],"body":{"email":"$login","password":"$password"}}"#,
    ),
    operation(
        "make a code",
        "auth.v1.OtpService/GenerateOtp",
        r#"{"POST":["talkamie","v1","otp"],"body":{"email":"$unused_email"}}"#,
    ),
    operation(
        "verify a code",
        "auth.v1.OtpService/VerifyOtp",
        r#"{"POST":["talkamie","v1","otp","verify"],"body":{"email":"$unused_email","code":"0000"}}"#,
    ),
    operation("show oneself", "auth.v1.UserService/GetMe", r#"{"GET":["talkamie","v1","auth"]}"#),
    operation("sign out", "auth.v1.AuthService/Logout", r#"{"DELETE":["talkamie","v1","auth","sign-out"]}"#),
    operation("list alerts", "messaging.v1.AlertService/ListAlerts", r#"{"GET":["talkamie","v1","alerts"]}"#),
    operation(
        "show the week",
        "scheduling.v1.CalendarService/GetWeeklyAvailability",
        r#"{"GET":["talkamie","v1","availability","weekly"]}"#,
    ),
    operation(
        "set the week",
        "scheduling.v1.CalendarService/SetWeeklyAvailability",
        r#"{"POST":["talkamie","v1","availability","weekly"],"body":{"mon":[{"start":"09:00","end":"12:00"}]}}"#,
    ),
    operation(
        "show the dates",
        "scheduling.v1.CalendarService/GetCustomAvailability",
        r#"{"GET":["talkamie","v1","availability","custom"]}"#,
    ),
    operation(
        "set the dates",
        "scheduling.v1.CalendarService/SetCustomAvailability",
        r#"{"POST":["talkamie","v1","availability","custom"],"body":{"$local_date":[{"start":"09:00","end":"12:00"}]}}"#,
    ),
    operation(
        "show a call",
        "scheduling.v1.CallService/GetCall",
        r#"{"GET":["talkamie","v1","call","$call"]}"#,
    ),
    operation(
        "list calls",
        "scheduling.v1.CallService/ListCalls",
        r#"{"GET":["talkamie","v1","calls","histories"]}"#,
    ),
    operation(
        "show a chat",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["talkamie","v1","chat","$direct"]}"#,
    ),
    operation(
        "show a group",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["talkamie","v1","chat","$conversation"]}"#,
    ),
    operation(
        "list messages",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"GET":["talkamie","v1","chat","$direct","messages"]}"#,
    ),
    operation("list chats", "messaging.v1.SyncService/ListInbox", r#"{"GET":["talkamie","v1","chats"]}"#),
    operation(
        "list unread chats",
        "messaging.v1.SyncService/ListInbox",
        r#"{"GET":["talkamie","v1","chats","unread"]}"#,
    ),
    operation(
        "list frequent chats",
        "messaging.v1.SyncService/ListInbox",
        r#"{"GET":["talkamie","v1","chats","frequent"]}"#,
    ),
    operation(
        "list pending connections",
        "conversation.v1.ConnectionService/ListPendingConnections",
        r#"{"GET":["talkamie","v1","connections","pending"]}"#,
    ),
    operation(
        "list connections",
        "conversation.v1.ConnectionService/ListConnections",
        r#"{"GET":["talkamie","v1","connections","users"]}"#,
    ),
    operation(
        "list interests",
        "auth.v1.InterestService/ListInterests",
        r#"{"GET":["talkamie","v1","interests"]}"#,
    ),
    operation(
        "list own reviews",
        "auth.v1.ReviewService/ListMyReviews",
        r#"{"GET":["talkamie","v1","reviews"]}"#,
    ),
    operation(
        "show a schedule",
        "scheduling.v1.CalendarService/GetSchedule",
        r#"{"GET":["talkamie","v1","schedule","$schedule"]}"#,
    ),
    operation(
        "change a schedule",
        "scheduling.v1.CalendarService/UpdateSchedule",
        r#"{"PUT":["talkamie","v1","schedule","$schedule"],"body":{"title":"Another talk"}}"#,
    ),
    operation(
        "cancel a schedule",
        "scheduling.v1.CalendarService/DeleteSchedule",
        r#"{"DELETE":["talkamie","v1","schedule","$schedule"]}"#,
    ),
    operation(
        "list schedules",
        "scheduling.v1.CalendarService/ListSchedules",
        r#"{"GET":["talkamie","v1","schedules"]}"#,
    ),
    operation(
        "list past schedules",
        "scheduling.v1.CalendarService/ListSchedules",
        r#"{"GET":["talkamie","v1","schedules","past"]}"#,
    ),
    operation(
        "list upcoming schedules",
        "scheduling.v1.CalendarService/ListSchedules",
        r#"{"GET":["talkamie","v1","schedules","upcoming"]}"#,
    ),
    operation("show a user", "auth.v1.UserService/GetUser", r#"{"GET":["user","$member"]}"#),
    operation("list users", "auth.v1.UserService/ListUsers", r#"{"GET":["talkamie","v1","users"]}"#),
    operation(
        "change oneself",
        "auth.v1.UserService/UpdateUser",
        r#"{"PUT":["user","$self"],"body":{"bio":"I like tea."}}"#,
    ),
    operation(
        "change another user",
        "auth.v1.UserService/UpdateUser",
        r#"{"PUT":["user","$member"],"body":{"bio":"I like tea."}}"#,
    ),
    operation(
        "delete oneself",
        "auth.v1.UserService/DeleteUser",
        r#"{"DELETE":["user","$self"],"body":{"password":"$password"}}"#,
    ),
    operation(
        "delete another user",
        "auth.v1.UserService/DeleteUser",
        r#"{"DELETE":["user","$member"],"body":{"password":"$password"}}"#,
    ),
    operation(
        "change the password",
        "auth.v1.AuthService/ChangePassword",
        r#"{"PUT":["user","$self","password"],"body":{"oldPassword":"$password","newPassword":"staple battery horse"}}"#,
    ),
    operation(
        "change the password of another user",
        "auth.v1.AuthService/ChangePassword",
        r#"{"PUT":["user","$member","password"],"body":{"oldPassword":"$password","newPassword":"staple battery horse"}}"#,
    ),
    operation(
        "ask for a background check of another user",
        "auth.v1.BackgroundCheckService/RequestBackgroundCheck",
        r#"{"POST":["user","$member","background-check"],"body":{"dob":"1990-05-17","state":"California","links":[]}}"#,
    ),
    operation(
        "schedule a call",
        "scheduling.v1.CalendarService/ScheduleCall",
        r#"{"POST":["user","$user","schedule"],"body":{"title":"A talk","type":"audio","recurrence":"none","startDateTime":"$slot_start","endDateTime":"$slot_end"}}"#,
    ),
    operation(
        "clear the schedules",
        "scheduling.v1.CalendarService/ClearSchedules",
        r#"{"DELETE":["user","$self","schedules"]}"#,
    ),
    operation(
        "clear the schedules of another user",
        "scheduling.v1.CalendarService/ClearSchedules",
        r#"{"DELETE":["user","$member","schedules"]}"#,
    ),
    operation(
        "ask for a connection",
        "conversation.v1.ConnectionService/SendConnectionRequest",
        r#"{"POST":["user","$user","connection"]}"#,
    ),
    operation(
        "cancel a connection request",
        "conversation.v1.ConnectionService/CancelConnectionRequest",
        r#"{"DELETE":["user","$asked","connection"]}"#,
    ),
    operation(
        "accept a connection request",
        "conversation.v1.ConnectionService/AcceptConnectionRequest",
        r#"{"POST":["user","$asking","connection","accept"]}"#,
    ),
    operation(
        "reject a connection request",
        "conversation.v1.ConnectionService/RejectConnectionRequest",
        r#"{"DELETE":["user","$asking","connection","reject"]}"#,
    ),
    operation(
        "write to a user",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["user","$user","message","request"],"body":{"text":"may I?"}}"#,
    ),
    operation(
        "cancel a message request",
        "conversation.v1.ConnectionService/CancelMessageRequest",
        r#"{"DELETE":["user","$written","message","request"]}"#,
    ),
    operation(
        "accept a message request",
        "conversation.v1.ConnectionService/AcceptMessageRequest",
        r#"{"POST":["user","$writing","message","request","accept"]}"#,
    ),
    operation(
        "reject a message request",
        "conversation.v1.ConnectionService/RejectMessageRequest",
        r#"{"DELETE":["user","$writing","message","request","reject"]}"#,
    ),
    operation(
        "list reviews",
        "auth.v1.ReviewService/ListUserReviews",
        r#"{"GET":["user","$member","reviews"]}"#,
    ),
    operation(
        "review a user",
        "auth.v1.ReviewService/PutReview",
        r#"{"POST":["user","$acquaintance","review"],"body":{"text":"Listens well.","rate":5}}"#,
    ),
    operation(
        "change a review",
        "auth.v1.ReviewService/PutReview",
        r#"{"PUT":["user","$reviewed","review"],"body":{"text":"Listens.","rate":4}}"#,
    ),
    operation(
        "delete a review",
        "auth.v1.ReviewService/DeleteReview",
        r#"{"DELETE":["user","$reviewed","review"]}"#,
    ),
    operation(
        "send",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"action":"send-message","body":{"chatId":"$direct","message":{"text":"hello"}}}"#,
    ),
    operation(
        "send to a group",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"action":"send-message","body":{"chatId":"$conversation","message":{"text":"hello"}}}"#,
    ),
    operation(
        "list messages on the socket",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"action":"get-messages","body":{"chatId":"$direct"}}"#,
    ),
    operation(
        "read messages",
        "messaging.v1.MessagingService/AdvanceWatermark",
        r#"{"action":"update-messages","body":{"chatId":"$direct","messagesMap":{"$direct_message":{"status":"read"}}}}"#,
    ),
    operation(
        "read alerts",
        "messaging.v1.AlertService/MarkAlerts",
        r#"{"action":"update-alerts","body":{"alertsMap":{"$alert":{"status":"read"}}}}"#,
    ),
    operation(
        "call a user",
        "scheduling.v1.CallService/StartCall",
        r#"{"action":"call-user","body":{"chatId":"$direct","type":"audio"}}"#,
    ),
    operation(
        "accept a call",
        "scheduling.v1.CallService/AcceptCall",
        r#"{"action":"accept-call","body":{"callId":"$call"}}"#,
    ),
    operation(
        "reject a call",
        "scheduling.v1.CallService/RejectCall",
        r#"{"action":"reject-call","body":{"callId":"$call"}}"#,
    ),
    operation(
        "end a call",
        "scheduling.v1.CallService/EndCall",
        r#"{"action":"end-call","body":{"callId":"$accepted_call"}}"#,
    ),
    operation(
        "connect a call",
        "scheduling.v1.CallService/MarkCallConnected",
        r#"{"action":"call-connected","body":{"callId":"$accepted_call"}}"#,
    ),
    operation(
        "disconnect a call",
        "scheduling.v1.CallService/MarkCallDisconnected",
        r#"{"action":"call-disconnected","body":{"callId":"$accepted_call"}}"#,
    ),
];

fn exception(case: &Case, role: Role) -> Option<Expected> {
    let title = case.title.as_str();
    match (title, role) {
        (
            "change another user"
            | "delete another user"
            | "change the password of another user"
            | "ask for a background check of another user"
            | "clear the schedules of another user",
            Role::Anonymous,
        ) => Some(UNAUTHENTICATED),
        (
            "change another user"
            | "delete another user"
            | "change the password of another user"
            | "ask for a background check of another user"
            | "clear the schedules of another user",
            _,
        ) => Some(DENIED),
        // It has no groups.
        ("show a group" | "send to a group", Role::Anonymous) => Some(UNAUTHENTICATED),
        ("show a group" | "send to a group", _) => Some(NOT_FOUND),
        // Neither has a name to be mentioned by.
        ("read alerts", Role::Guest | Role::External) => Some(NOT_FOUND),
        _ => None,
    }
}

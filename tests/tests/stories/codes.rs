//! Proving that an address is one's own, and coming back without the password.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::person::{PASSWORD, text};
use tests::waiting::until;
use tests::{Person, World};

tests::stories![
    an_address_is_proven_by_a_code,
    a_forgotten_password_is_replaced,
    a_code_is_good_for_one_thing_once,
    codes_are_neither_guessed_nor_asked_for_without_end,
    a_code_is_right_in_its_flow_only,
    whether_an_address_is_known_is_told_to_nobody,
    an_address_is_proven_before_there_is_an_account,
    an_address_is_found_when_its_owner_lets_it_be,
    a_name_and_a_password_are_suggested,
    nothing_is_pretended_that_is_not_configured,
];

/// An address that nobody else has.
fn address_of(person: &Person) -> String {
    format!("{}@example.org", person.username)
}

async fn takes_address(person: &Person) -> String {
    let email = address_of(person);
    let change = json!({ "user": { "email": email }, "updateMask": "email", "password": PASSWORD });
    person.patch("/v1/me", change).await.ok();
    email
}

/// Asks for a code; the profile `development`, in which the stories run, answers with it.
async fn code(person: &Person, email: &str, purpose: &str) -> String {
    let body = json!({ "email": email, "purpose": format!("OTP_PURPOSE_{purpose}") });
    text(&person.post("/v1/auth/otp", body).await.ok()["code"])
}

fn proof(email: &str, code: &str) -> Value {
    json!({ "email": email, "code": code, "purpose": "OTP_PURPOSE_VERIFY_EMAIL" })
}

fn other_than(code: &str) -> String {
    let last = code.chars().last().and_then(|digit| digit.to_digit(10)).expect("a digit");
    format!("{}{}", &code[..code.len() - 1], (last + 1) % 10)
}

async fn an_address_is_proven_by_a_code(world: Arc<World>) {
    let ann = world.person("ann").await;
    let email = takes_address(&ann).await;
    let is_verified = async || ann.get("/v1/me").await.ok()["user"]["emailVerified"].clone();
    assert_ne!(is_verified().await, json!(true));
    let code = code(&ann, &email, "VERIFY_EMAIL").await;
    assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let wrong = ann.post("/v1/auth/otp/verify", proof(&email, &other_than(&code))).await;
    assert_eq!(wrong.refused(400), "ERROR_REASON_OTP_INVALID");
    ann.post("/v1/auth/otp/verify", proof(&email, &code)).await.ok();
    assert_eq!(is_verified().await, json!(true));
    // Another address has not been proven.
    let other = format!("new-{email}");
    let change =
        |password: &str| json!({ "user": { "email": other }, "updateMask": "email", "password": password });
    let refused = ann.patch("/v1/me", change("")).await;
    assert_eq!(refused.refused(401), "ERROR_REASON_BAD_CREDENTIALS", "a session alone");
    ann.patch("/v1/me", change(PASSWORD)).await.ok();
    assert_ne!(is_verified().await, json!(true));
}

async fn a_forgotten_password_is_replaced(world: Arc<World>) {
    let ann = world.person("ann").await;
    let email = takes_address(&ann).await;
    let code = code(&ann, &email, "RESET_PASSWORD").await;
    let reset = |code: &str, password: &str| json!({ "email": email, "code": code, "newPassword": password });
    let weak = ann.post("/v1/auth/password-reset", reset(&code, "password1")).await;
    assert_eq!(weak.refused(400), "ERROR_REASON_WEAK_PASSWORD");
    ann.post("/v1/auth/password-reset", reset(&code, "another horse of batteries")).await.ok();
    let login = |password: &str| json!({ "login": ann.username, "password": password });
    assert_eq!(
        ann.post("/v1/auth/login", login(PASSWORD)).await.refused(401),
        "ERROR_REASON_BAD_CREDENTIALS"
    );
    ann.post("/v1/auth/login", login("another horse of batteries")).await.ok();
    // Whoever was signed in is so no longer.
    assert_eq!(ann.get("/v1/me").await.refused(401), "ERROR_REASON_UNAUTHENTICATED");
}

async fn a_code_is_good_for_one_thing_once(world: Arc<World>) {
    let ann = world.person("ann").await;
    let email = takes_address(&ann).await;
    let for_reset = code(&ann, &email, "RESET_PASSWORD").await;
    let wrong = ann.post("/v1/auth/otp/verify", proof(&email, &for_reset)).await;
    assert_eq!(wrong.refused(400), "ERROR_REASON_OTP_INVALID", "it is for something else");
    let code = code(&ann, &email, "VERIFY_EMAIL").await;
    ann.post("/v1/auth/otp/verify", proof(&email, &code)).await.ok();
    let again = ann.post("/v1/auth/otp/verify", proof(&email, &code)).await;
    assert_eq!(again.refused(400), "ERROR_REASON_OTP_INVALID");
}

async fn codes_are_neither_guessed_nor_asked_for_without_end(world: Arc<World>) {
    let ann = world.person("ann").await;
    let email = takes_address(&ann).await;
    let right = code(&ann, &email, "VERIFY_EMAIL").await;
    for _ in 0..5 {
        let wrong = ann.post("/v1/auth/otp/verify", proof(&email, &other_than(&right))).await;
        assert_eq!(wrong.refused(400), "ERROR_REASON_OTP_INVALID");
    }
    let too_late = ann.post("/v1/auth/otp/verify", proof(&email, &right)).await;
    assert_eq!(too_late.refused(400), "ERROR_REASON_OTP_INVALID", "the right one, after five wrong ones");
    code(&ann, &email, "VERIFY_EMAIL").await;
    code(&ann, &email, "VERIFY_EMAIL").await;
    let body = json!({ "email": email, "purpose": "OTP_PURPOSE_VERIFY_EMAIL" });
    let refused = ann.post("/v1/auth/otp", body).await;
    assert!(refused.retry_after.is_some(), "{refused:?}");
    assert_eq!(refused.refused(429), "ERROR_REASON_RATE_LIMITED");
}

async fn a_code_is_right_in_its_flow_only(world: Arc<World>) {
    let ann = world.person("ann").await;
    let email = takes_address(&ann).await;
    let ask = json!({ "email": email, "purpose": "OTP_PURPOSE_VERIFY_EMAIL", "withFlowId": true });
    let flow = ann.post("/v1/auth/otp", ask).await.ok();
    assert_eq!((text(&flow["flowId"]).len(), &flow["codeLength"]), (26, &json!(6)));
    let code = text(&flow["code"]);
    // The stories come from one network: wrong codes without the id are those of a neighbour.
    for _ in 0..6 {
        let wrong = ann.post("/v1/auth/otp/verify", proof(&email, &other_than(&code))).await;
        assert_eq!(wrong.refused(400), "ERROR_REASON_OTP_INVALID");
    }
    let without = ann.post("/v1/auth/otp/verify", proof(&email, &code)).await;
    assert_eq!(without.refused(400), "ERROR_REASON_OTP_INVALID");
    let mut with = proof(&email, &code);
    with["flowId"] = flow["flowId"].clone();
    ann.post("/v1/auth/otp/verify", with).await.ok();
    assert_eq!(ann.get("/v1/me").await.ok()["user"]["emailVerified"], json!(true));
}

async fn whether_an_address_is_known_is_told_to_nobody(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let known = takes_address(&ann).await;
    let unknown = address_of(&bob);
    let mut answers = Vec::new();
    for email in [&known, &unknown] {
        let body = json!({ "email": email, "purpose": "OTP_PURPOSE_RESET_PASSWORD" });
        let answer = bob.post("/v1/auth/otp", body).await;
        let names: Vec<_> = answer.body.as_object().expect("fields").keys().cloned().collect();
        let reset = json!({ "email": email, "code": "000000", "newPassword": "staple battery horse" });
        let refused = bob.post("/v1/auth/password-reset", reset).await;
        answers.push((answer.status, names, refused.status, refused.body["reason"].clone()));
    }
    assert_eq!(answers[0], answers[1]);
}

async fn an_address_is_proven_before_there_is_an_account(world: Arc<World>) {
    let [ann, stranger] = world.people(["ann", "stranger"]).await;
    let email = format!("new-{}", address_of(&ann));
    let purpose = "OTP_PURPOSE_SIGN_UP";
    let ask = json!({ "email": email, "purpose": purpose, "codeLength": 4 });
    let code = text(&ann.post("/v1/auth/otp", ask).await.ok()["code"]);
    assert_eq!(code.len(), 4);
    let verify = |code: &str| json!({ "email": email, "code": code, "purpose": purpose });
    let wrong = ann.post("/v1/auth/otp/verify", verify(&other_than(&code))).await;
    assert_eq!(wrong.refused(400), "ERROR_REASON_OTP_INVALID");
    ann.post("/v1/auth/otp/verify", verify(&code)).await.ok();
    let register = |name: &str| json!({ "username": name, "password": PASSWORD, "email": email });
    let registered = ann.post("/v1/auth/register", register(&format!("new-{}", ann.username))).await.ok();
    assert_eq!(registered["user"]["emailVerified"], json!(true));
    // It was good for one account. Another one with this address is made, and has not verified it.
    let claimed = ann.post("/v1/auth/register", register(&format!("two-{}", ann.username))).await.ok();
    assert_eq!(claimed["user"]["email"], json!(email));
    assert_ne!(claimed["user"]["emailVerified"], json!(true));
    let login = json!({ "login": email, "password": PASSWORD });
    let signed_in = ann.post("/v1/auth/login", login).await.ok();
    assert_eq!(signed_in["user"]["userId"], registered["user"]["userId"]);
    let unproven = json!({
        "username": format!("new-{}", stranger.username), "password": PASSWORD, "email": address_of(&stranger),
    });
    let registered = stranger.post("/v1/auth/register", unproven).await.ok();
    assert_ne!(registered["user"]["emailVerified"], json!(true));
    let five = json!({ "email": email, "purpose": purpose, "codeLength": 5 });
    assert_eq!(ann.post("/v1/auth/otp", five).await.body["fields"][0]["field"], json!("code_length"));
}

async fn an_address_is_found_when_its_owner_lets_it_be(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let email = takes_address(&ann).await;
    let search = format!("/v1/users?email={email}");
    let found = async || bob.get(&search).await.ok()["users"].as_array().map_or(0, Vec::len);
    let let_be_found = json!({ "user": { "foundByEmail": true }, "updateMask": "foundByEmail" });
    assert_eq!(ann.patch("/v1/me", let_be_found).await.ok()["user"]["foundByEmail"], json!(true));
    assert_eq!(found().await, 0, "the address is not verified");
    let code = code(&ann, &email, "VERIFY_EMAIL").await;
    ann.post("/v1/auth/otp/verify", proof(&email, &code)).await.ok();
    assert_eq!(bob.get(&search).await.ok()["users"][0]["userId"], json!(ann.id));
    let guest = ann.post("/v1/auth/guest", json!({})).await.ok();
    let guest = ann.with_token(guest["grant"]["sessionToken"].as_str().expect("a token"));
    assert_eq!(guest.get(&search).await.refused(409), "ERROR_REASON_GUEST_ACCOUNT");
    // What auth knows of a block follows soon.
    ann.put(&format!("/v1/users/{}/block", bob.id), json!({})).await.ok();
    until("a search without what is blocked", || async { (found().await == 0).then_some(()) }).await;
}

async fn a_name_and_a_password_are_suggested(world: Arc<World>) {
    let ann = world.person("ann").await;
    let suggested = ann.get("/v1/auth/suggestion").await.ok();
    let body = json!({ "username": suggested["username"], "password": suggested["password"] });
    ann.post("/v1/auth/register", body).await.ok();
    let other = ann.get("/v1/auth/suggestion").await.ok();
    assert_ne!(suggested["password"], other["password"]);
}

async fn nothing_is_pretended_that_is_not_configured(world: Arc<World>) {
    let ann = world.person("ann").await;
    let check = json!({
        "requestId": proto::id::EventId::generate().to_string(), "firstName": "Ann", "lastName": "Archer",
        "dateOfBirth": "1990-05-17", "region": "California",
    });
    // In development a check is kept, and stays pending.
    let asked = ann.post("/v1/me/background-check", check).await.ok()["check"].clone();
    assert_eq!(asked["state"], json!("BACKGROUND_CHECK_STATE_PENDING"));
    assert_eq!(ann.get("/v1/me/background-check").await.ok()["check"], asked);
    assert_eq!(ann.get("/v1/me").await.ok()["user"].get("backgroundCheckTime"), None);
    let token = json!({ "provider": "google", "idToken": "e30.e30.e30" });
    assert_eq!(ann.post("/v1/auth/provider", token).await.refused(404), "ERROR_REASON_PROVIDER_NOT_FOUND");
    assert_eq!(ann.get("/v1/auth/providers").await.ok()["providers"], json!([]));
}

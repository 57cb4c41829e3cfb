//! Two gateways behind a real nginx with the configuration that `deploy/nginx.conf` shows.

mod balancer;
mod network;

use std::net::Ipv4Addr;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::socketio::SocketIo;
use tests::waiting::{until, within};
use tests::{Person, Shape, World, node, storage};

use self::balancer::{Balancer, nginx};
use self::network::Network;

tests::stories![clients_of_two_gateways_talk_through_a_balancer];

/// As `deploy/config` sets gateways up; the balancer is the proxy that is trusted.
const BEHIND_THE_BALANCER: &[(&str, &str)] = &[
    ("profile", "production"),
    ("auth.registration_open", "true"),
    ("gateway.trusted_proxies", "127.0.0.1"),
    ("limits.rates.guests_per_address_per_hour", "1"),
];

/// The networks of the clients. The balancer tells addresses of IPv4 apart by their first three numbers.
const NETWORKS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 1, 2),
    Ipv4Addr::new(127, 0, 2, 2),
    Ipv4Addr::new(127, 0, 3, 2),
];

async fn clients_of_two_gateways_talk_through_a_balancer(world: Arc<World>) {
    // One process has one gateway.
    if world.shape == Shape::Embedded || !node::has_clients() {
        return;
    }
    let Some(nginx) = nginx() else { return };
    let database = storage::fresh_database().await.expect("a database");
    let bus = storage::nats_url().expect("a bus");
    let world = World::separate_with(&database, &bus, BEHIND_THE_BALANCER).await;
    let mut world = world.expect("a world of its own");
    let balancer = Balancer::start(&nginx, &world.gateways()).await;
    let mut networks = Vec::new();
    for source in NETWORKS {
        networks.push(Network::start(&balancer, source).await);
    }
    let mut people = Vec::new();
    for network in &networks {
        people.push(Person::register(network.address(), "ann").await);
    }

    canonical_clients_talk(&world, &people).await;
    a_limit_counts_the_client_and_not_the_balancer(&networks).await;
    a_message_goes_to_the_room_of_the_socket(&networks, &people).await;
    let mut sites = clients_of_socket_io_talk(&world, &people, &networks).await;
    clients_of_a_gateway_that_goes_come_to_the_other(&mut world, &people, &mut sites).await;

    drop(sites);
    world.stop().await.expect("a world that stops");
    assert_eq!(world.errors(), Vec::<String>::new());
    let complaints = balancer.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// The number of open connections of clients at each gateway that runs.
async fn open_sockets(world: &World) -> Vec<usize> {
    let gateways = world.processes.iter().filter(|process| process.name().starts_with("gateway"));
    let mut counts = Vec::new();
    for gateway in gateways.filter(|gateway| gateway.id().is_some()) {
        let admin = gateway.address("admin").expect("an admin address");
        let figures = reqwest::get(format!("http://{admin}/metrics")).await.expect("the figures");
        let figures = figures.text().await.expect("a text");
        let open = figures.lines().find_map(|line| line.strip_prefix("sockets_open "));
        counts.push(open.map_or(0, |count| count.parse().expect("a number")));
    }
    counts
}

async fn canonical_clients_talk(world: &World, people: &[Person]) {
    let (ann, others) = people.split_first().expect("people");
    let conversation = ann.starts_group_with(&others.iter().collect::<Vec<_>>()).await;
    let mut screens = Vec::new();
    for person in people {
        screens.push(person.comes_online().await);
    }
    let open = open_sockets(world).await;
    assert!(open.iter().all(|count| *count > 0), "both gateways have sockets: {open:?}");
    for (number, person) in people.iter().enumerate() {
        let words = format!("canonical {number}");
        person.says(&conversation, &words).await;
        for screen in &mut screens {
            screen.expects_message(&words).await;
        }
    }
}

async fn post(network: &Network, person: Option<&Person>, path: &str, body: Value) -> Answer {
    let bearer = person.map(|person| format!("Bearer {}", person.token));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    http::ask_foreign(network.address(), Method::POST, path, &headers, Some(&body)).await
}

/// One guest an hour enters from an address at each gateway: the third one is refused, and one from another network is not.
async fn a_limit_counts_the_client_and_not_the_balancer(networks: &[Network]) {
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post(&networks[0], None, "/users/login", json!({ "guest": 1 })).await.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    post(&networks[1], None, "/users/login", json!({ "guest": 1 })).await.ok();
}

/// A message of the playground without a room goes to the room that a socket of the user joined last at the same gateway.
async fn a_message_goes_to_the_room_of_the_socket(networks: &[Network], people: &[Person]) {
    for (network, person) in networks.iter().zip(people) {
        let made = post(network, Some(person), "/rooms", json!({ "name": "Salon" })).await.ok();
        let mut sockets = SocketIo::start(network.address());
        sockets.is_connected("ann").await;
        sockets.emits("ann", "login", json!({ "token": person.token })).await;
        sockets.emits("ann", "join", json!({ "uid": made["room"]["uid"] })).await;
        sockets.hears("ann", "room_users").await;
        let sent = post(network, Some(person), "/messages", json!({ "message": "in this room" })).await.ok();
        assert_eq!(sent["success"], true, "{sent}");
        assert_eq!(sockets.hears("ann", "message").await["id"], sent["result"]);
    }
}

/// The clients of Socket.IO in each network: by polling and then WebSocket, as the library does by itself; by polling only;
/// and with a path that ends without a slash.
const CLIENTS: [&str; 3] = ["default", "polling", "without a slash"];

fn options(client: &str, token: &str) -> Value {
    let mut options = json!({ "auth": { "token": token } });
    match client {
        "polling" => options["transports"] = json!(["polling"]),
        "without a slash" => {
            options["path"] = json!("/socket.io");
            options["addTrailingSlash"] = json!(false);
        }
        _ => {}
    }
    options
}

/// Waits until a client is connected by the transport that it uses in the end.
async fn is_connected(site: &mut SocketIo, client: &str) {
    let transport = site.hears(client, "connect").await;
    match client {
        "polling" => assert_eq!(transport, "polling"),
        _ => assert_eq!(site.hears(client, "upgrade").await, "websocket", "{client}"),
    }
}

async fn clients_of_socket_io_talk(world: &World, people: &[Person], networks: &[Network]) -> Vec<SocketIo> {
    until("no socket to be open", async || {
        open_sockets(world).await.iter().all(|open| *open == 0).then_some(())
    })
    .await;
    let mut sites: Vec<_> = networks.iter().map(|network| SocketIo::start(network.address())).collect();
    // All at once.
    for (site, person) in sites.iter_mut().zip(people) {
        for client in CLIENTS {
            site.connects(client, options(client, &person.token)).await;
        }
    }
    for site in &mut sites {
        for client in CLIENTS {
            within(&format!("{client} to be connected"), is_connected(site, client)).await;
        }
    }
    let open = open_sockets(world).await;
    assert!(open.iter().all(|count| *count > 0), "both gateways have clients: {open:?}");
    assert_eq!(open.iter().sum::<usize>(), sites.len() * CLIENTS.len());
    everyone_hears_everyone(people, &mut sites, "both").await;
    sites
}

/// A conversation in which each client sends a message that all clients hear.
async fn everyone_hears_everyone(people: &[Person], sites: &mut [SocketIo], what: &str) {
    let (ann, others) = people.split_first().expect("people");
    let conversation = ann.starts_group_with(&others.iter().collect::<Vec<_>>()).await;
    for site in sites.iter_mut() {
        for client in CLIENTS {
            let joined = site.asks(client, "joinConversation", json!(conversation)).await;
            assert_eq!(joined["conversationID"], json!(conversation), "{client}: {joined}");
        }
    }
    for from in 0..sites.len() {
        for client in CLIENTS {
            let words = format!("{what}: {client} of network {from}");
            let body = json!({ "conversationID": conversation, "message": words });
            let sent = sites[from].asks(client, "sendMessage", body).await;
            for site in sites.iter_mut() {
                for listener in CLIENTS {
                    let message = site.hears_when(listener, "message", |it| it["message"] == words).await;
                    assert_eq!(message["_id"], sent["_id"], "{listener}");
                }
            }
        }
    }
    for site in sites {
        for client in CLIENTS {
            let heard = site.has_heard(client).await;
            let is_break = |event: &String| matches!(event.as_str(), "disconnect" | "connect_error");
            assert!(!heard.iter().any(is_break), "{client}: {heard:?}");
        }
    }
}

async fn clients_of_a_gateway_that_goes_come_to_the_other(
    world: &mut World,
    people: &[Person],
    sites: &mut [SocketIo],
) {
    world.process("gateway-1").stop().await.expect("a gateway that stops");
    let all = sites.len() * CLIENTS.len();
    until("all clients to be at the other gateway", async || {
        (open_sockets(world).await == [all]).then_some(())
    })
    .await;
    for site in sites.iter_mut() {
        for client in CLIENTS {
            // That it has changed the gateway is no break.
            site.has_heard(client).await;
            site.forgets(client);
        }
    }
    everyone_hears_everyone(people, sites, "one").await;
}

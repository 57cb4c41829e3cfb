//! The image and the composition, as far as they can be tried without Docker: every command that they name is run with the
//! variables of the image and the configuration files beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use tests::World;
use tests::process::binary;

tests::stories![every_command_of_the_image_has_a_configuration, the_image_starts_and_says_that_it_is_healthy,];

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).expect("a file of deploy")
}

/// The variables that the image sets.
fn variables() -> HashMap<String, String> {
    let dockerfile = read("Dockerfile").replace("\\\n", " ");
    let settings =
        dockerfile.lines().filter_map(|line| line.strip_prefix("ENV ")).flat_map(str::split_whitespace);
    let pair =
        |setting: &str| setting.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings.filter_map(pair).collect()
}

/// The lists of words that stand behind a key, such as `["parlor", "healthcheck"]`, without a leading `CMD`.
fn commands(text: &str, key: &str) -> Vec<Vec<String>> {
    let lists = text.lines().filter_map(|line| line.trim().split_once(key)).map(|(_, rest)| rest);
    let words = lists.filter_map(|list| serde_json::from_str::<Vec<String>>(list.trim()).ok());
    words.map(|words| words.into_iter().filter(|word| word != "CMD").collect()).collect()
}

/// A command of the image with the files of this repository.
fn command(words: &[String]) -> Command {
    let mut command = Command::new(binary(&words[0]).expect("a binary"));
    let here = |word: &String| word.replace("/etc/parlor", &deploy("config").to_string_lossy());
    command.args(words[1..].iter().map(here)).env_clear().envs(variables());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn every_command_of_the_image_has_a_configuration(_world: Arc<World>) {
    let (dockerfile, compose) = (read("Dockerfile"), read("compose.yaml"));
    let ours = |words: &Vec<String>| words[0].starts_with("parlor");
    let run: Vec<_> = [commands(&dockerfile, "CMD "), commands(&compose, "command:")].concat();
    let checks = commands(&compose, "test:");
    let (run, checks): (Vec<_>, Vec<_>) =
        (run.into_iter().filter(ours).collect(), checks.into_iter().filter(ours).collect());
    // The image's own two, and five services with a check each.
    assert_eq!((run.len(), checks.len()), (7, 5), "{run:?} {checks:?}");
    for words in run.iter().chain(&checks) {
        let words: Vec<_> = words.iter().filter(|word| *word != "healthcheck").cloned().collect();
        let output = command(&words).arg("--print-config").output().expect("run");
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains("profile = \"production\""), "{words:?}: {printed}");
    }
}

async fn the_image_starts_and_says_that_it_is_healthy(_world: Arc<World>) {
    let dockerfile = read("Dockerfile");
    let [check, start] = &commands(&dockerfile, "CMD ")[..] else { panic!("two commands: {dockerfile}") };
    let folder = tempfile::tempdir().expect("a folder");
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let places = HashMap::from([
        ("PARLOR__DATA_FOLDER", folder.path().to_string_lossy().into_owned()),
        ("PARLOR__LISTEN__GRPC", free()),
        ("PARLOR__LISTEN__ADMIN", free()),
        ("PARLOR__LISTEN__LAME_DUCK", "0s".to_owned()),
        ("PARLOR__GATEWAY__LISTEN", free()),
    ]);
    let check = || command(check).envs(&places).output().expect("run");
    let before = check();
    assert!(!before.status.success() && said(&before).contains("nothing answers"), "{}", said(&before));

    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    let mut process = command(start).envs(&places).stderr(log).spawn().expect("started");
    let mut last = before;
    for _ in 0..300 {
        last = check();
        if last.status.success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = std::fs::read_to_string(folder.path().join("log")).expect("a log");
    let stopped = process.kill().and_then(|()| process.wait());
    assert!(last.status.success(), "{}\n{log}", said(&last));
    stopped.expect("stopped");
    assert!(!check().status.success(), "a process that is gone is not healthy");
}

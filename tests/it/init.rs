//! First steps without a key: `init --sandbox` and the commands that it prints (contract 1).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::child::until;
use crate::harness::free_address;

const TRACKPOST: &str = env!("CARGO_BIN_EXE_trackpost");
const README: &str = include_str!("../../README.md");

fn trackpost(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(TRACKPOST);
    let output =
        command.args(arguments).current_dir(directory).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The commands that `init` printed, without their comments.
fn next(printed: &str) -> Vec<String> {
    let lines = printed.lines().skip_while(|line| *line != "next:").skip(1);
    lines.filter_map(|line| Some(line.split(" # ").next()?.trim().to_owned())).collect()
}

/// Processes that are killed with the test.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test]
async fn the_commands_that_init_prints_deliver_events() {
    let directory = tempfile::tempdir().unwrap();
    let (code, printed, error) = trackpost(directory.path(), &["init", "--sandbox"]);
    assert_eq!(code, Some(0), "{error}");
    let commands = next(&printed);
    assert_eq!(commands.len(), 4, "{printed}");
    for command in &commands {
        assert!(README.contains(command.as_str()), "the README lacks {command}");
    }
    let mode = |name: &str| directory.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("trackpost.toml"), mode("orders.secret")), (0o600, 0o600));

    // Other tests may use the ports of the documentation.
    let (api, receiver) = (free_address().port().to_string(), free_address().port().to_string());
    let moved = |text: &str| text.replace("9786", &api).replace("9787", &receiver);
    let config = directory.path().join("trackpost.toml");
    std::fs::write(&config, moved(&std::fs::read_to_string(&config).unwrap())).unwrap();
    let bin = Path::new(TRACKPOST).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let mut running = Running(Vec::new());
    for (number, command) in commands[1..].iter().enumerate() {
        let command = match command.ends_with("trackpost listen") {
            true => format!("{command} --listen 127.0.0.1:{receiver}"),
            false => moved(command),
        };
        let (variables, command) = command.split_at(command.find("trackpost ").unwrap());
        let log = std::fs::File::create(directory.path().join(format!("log-{number}"))).unwrap();
        let child = Command::new("bash")
            .args(["-euc", &format!("{}; {variables} exec {command}", commands[0])])
            .current_dir(directory.path())
            .env_clear()
            .env("PATH", &path)
            .env("TRACKPOST__HTTP__LISTEN", "")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        running.0.push(child.unwrap());
    }
    let received = || std::fs::read_to_string(directory.path().join("log-1")).unwrap();
    let arrived = until(|| received().lines().filter(|line| line.contains("✓ verified")).count() >= 6).await;
    let daemon = std::fs::read_to_string(directory.path().join("log-2")).unwrap();
    assert!(arrived.is_ok(), "{}\n{daemon}", received());
    assert!(received().contains("tracking.event.added") && !received().contains('✗'), "{}", received());
}

#[test]
fn init_keeps_existing_files_and_works_without_a_key() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("orders.secret"), "mine").unwrap();
    let (code, _, error) = trackpost(directory.path(), &["init"]);
    assert!(
        code == Some(1) && error.contains("orders.secret already exists; no file was written"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    std::fs::remove_file(directory.path().join("orders.secret")).unwrap();
    let (code, printed, error) = trackpost(directory.path(), &["init"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(printed.contains("insert your API key") && printed.contains("trackpost run"), "{printed}");
    let (code, printed, _) = trackpost(directory.path(), &["check", "--config", "trackpost.toml"]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(trackpost(directory.path(), &["init", "--sandbox"]).0, Some(1));

    // Without a configuration the output names the command that writes one.
    for verb in [&["check"][..], &["run"], &["status"], &["labels", "add", "se-1"]] {
        let arguments = [&["--config", "nowhere.toml"], verb].concat();
        let (code, printed, error) = trackpost(directory.path(), &arguments);
        let output = printed + &error;
        assert!(code == Some(1) && output.contains("trackpost init writes one"), "{verb:?}: {output}");
    }
}

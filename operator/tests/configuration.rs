//! Exit statuses of a configuration that cannot be used: scripts tell it from everything else that can fail.

use std::process::Command;

const CONFIGURATION_INVALID: i32 = 2;

fn exit_status(arguments: &[&str], configuration: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("operator.toml");
    std::fs::write(&file, configuration).expect("the file");
    let output = Command::new(env!("CARGO_BIN_EXE_operator"))
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .output()
        .expect("the operator");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn an_unusable_configuration_has_a_status_of_its_own() {
    for arguments in [&["config", "check"][..], &["run"], &["watch"]] {
        let (status, said) = exit_status(arguments, "no_such_setting = true\n");
        assert_eq!(status, Some(CONFIGURATION_INVALID), "{arguments:?}: {said}");
        assert!(
            said.contains("no_such_setting"),
            "{arguments:?} names what is wrong: {said}"
        );
    }
}

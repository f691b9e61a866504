//! Deployment files that are wrong: exit status 2, the place, what was found and what was expected.

use std::fmt::Write as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use eyre::ensure;
use system_tests::{binaries, deployment, example};

/// No file may keep the parser busy.
const LIMIT: Duration = Duration::from_secs(60);

fn check(name: &str, text: &str) -> eyre::Result<(String, Output)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(name);
    std::fs::write(&file, text)?;
    let begin = Instant::now();
    let output = Command::new(binaries()?.join("spheron"))
        .arg("--home")
        .arg(folder.path().join("home"))
        .arg("check")
        .arg(&file)
        .output()?;
    ensure!(
        begin.elapsed() < LIMIT,
        "checking {name} took {} ms",
        begin.elapsed().as_millis()
    );
    ensure!(!folder.path().join("home/key").exists(), "checking a file made a key");
    Ok((file.display().to_string(), output))
}

/// `needle` is what the message must say beside the place.
fn expect_refused(name: &str, text: &str, line: Option<usize>, needle: &str) -> eyre::Result<()> {
    let (file, output) = check(name, text)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(2),
        "{name}: exit status {}, expected 2: {said}",
        output.status
    );
    ensure!(
        output.stdout.is_empty(),
        "{name}: stdout is for results, not for {:?}",
        output.stdout
    );
    let place = said.split_once(&format!("{file}:")).map(|(_, rest)| rest);
    let mut numbers = place.unwrap_or_default().splitn(3, |c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<usize>().ok());
    let (Some(found), Some(_)) = (number(), number()) else {
        eyre::bail!("{name}: the message names no line and column of the file: {said}");
    };
    ensure!(
        line.is_none_or(|line| line == found),
        "{name}: line {line:?} was expected in {said}"
    );
    ensure!(said.contains(needle), "{name}: {needle:?} is missing in {said}");
    Ok(())
}

/// 1-based line of the first line that contains a text.
fn line_of(text: &str, part: &str) -> Option<usize> {
    text.lines().position(|line| line.contains(part)).map(|line| line + 1)
}

#[test]
fn a_file_of_the_examples_passes() -> eyre::Result<()> {
    let (_, output) = check("good.yaml", &std::fs::read_to_string(example("hello.icl.yaml"))?)?;
    ensure!(
        output.status.success(),
        "the example is refused: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (_, output) = check("generated.yaml", &deployment("image: spheron/hello:1"))?;
    ensure!(
        output.status.success(),
        "the tests' file is refused: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn mistakes_are_named_with_their_place() -> eyre::Result<()> {
    let good = deployment("image: spheron/hello:1");
    let cases = [
        (
            "unknown-key.yaml",
            "image: spheron/hello:1",
            "imgae: spheron/hello:1",
            "imgae",
        ),
        ("bad-unit.yaml", "size: 32Mi", "size: 32Mx", "32Mx"),
        ("bad-duration.yaml", "duration: 1h", "duration: 5m", "min"),
        ("missing-profile.yaml", "profile: app", "profile: absent", "absent"),
        (
            "overflow.yaml",
            "units: 0.1",
            "units: 99999999999999999999999",
            "99999999999999999999999",
        ),
        ("negative.yaml", "amount: 1", "amount: -1", "-1"),
        ("bad-port.yaml", "port: 8080", "port: 80800", "80800"),
    ];
    for (name, before, after, needle) in cases {
        let text = good.replacen(before, after, 1);
        ensure!(text != good, "{name} changes nothing");
        expect_refused(name, &text, line_of(&text, after), needle)?;
    }
    let twice = good.replacen("profiles:", "  app:\n    image: spheron/hello:2\nprofiles:", 1);
    expect_refused(
        "duplicate-service.yaml",
        &twice,
        line_of(&twice, "profiles:").map(|line| line - 2),
        "app",
    )
}

#[test]
fn files_that_are_no_files_are_refused_at_once() -> eyre::Result<()> {
    expect_refused(
        "large.yaml",
        &format!("version: \"1.0\"\n# {}\n", "x".repeat(10 << 20)),
        None,
        "",
    )?;
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = format!("*a{}, ", level - 1).repeat(10);
        writeln!(bomb, "a{level}: &a{level} [{}]", inner.trim_end_matches(", "))?;
    }
    expect_refused("bomb.yaml", &bomb, None, "")?;
    expect_refused("deep.yaml", &"[".repeat(100_000), None, "")?;
    expect_refused("binary.yaml", "version: \u{0}\u{1}", None, "")?;
    expect_refused("empty.yaml", "", None, "")
}

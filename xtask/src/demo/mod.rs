//! `cargo xtask demo`: the main job end to end, on real files, with unmodified programs.

mod files;
mod search;
pub(crate) mod stage;
mod tamper;
mod tell;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::{self, Profile, output, shown};
use crate::setup;
use files::Sample;
use search::{Plaintext, RUN};
use stage::Stage;
use tell::{Story, grouped, mebibytes, rate, seconds};

/// 512 × 512 bytes: the block length that tape libraries are usually driven with.
const TAR_BLOCKING: &str = "512";

/// The label block has this length in every version of the format.
const LABEL_LENGTH: u64 = 4096;
const LABEL_MAGIC: &[u8] = b"SEALTAPE VOLUME ";

pub(crate) struct Options {
    /// Leave folder and services standing.
    pub(crate) keep: bool,
    pub(crate) profile: Profile,
    /// Build the binaries first.
    pub(crate) build: bool,
    /// How much to write.
    pub(crate) mebibytes: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::for_demo()?;
    if options.build {
        command::build(options.profile)?;
    }
    let stage = Stage::set(options.profile)?;
    let mut story = Story::begin(stage.folder(), &command::binaries(options.profile)?);

    let tape = stage.folder().join("A00001L8.tape");
    let spare = stage.folder().join("A00002L8.tape");
    let sample = Sample::choose(options.mebibytes << 20)?;

    found(&stage, &mut story)?;
    label(&stage, &mut story, &tape, &spare)?;
    write(&stage, &mut story, &sample)?;
    inspect(&stage, &mut story, &tape, &sample)?;
    read_back(&stage, &mut story, &sample)?;
    audit(&stage, &mut story)?;
    restore_without_services(&stage, &mut story, &tape, &sample)?;
    refuse_tampered_tape(&stage, &mut story, &tape)?;
    if options.keep {
        keep(&stage, &mut story, &tape)?;
    }
    story.end();
    if options.keep {
        tell_what_next(&stage, &spare)?;
    }
    Ok(())
}

/// Runs and shows it as typed.
fn typed(story: &Story, command: &mut Command) -> Result<String> {
    story.typed(command);
    output(command)
}

/// Runs what has to fail, and gives what it said.
fn refused(story: &Story, command: &mut Command) -> Result<String> {
    story.typed(command);
    let output = command.output().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(!output.status.success(), "{} should have been refused and was not", shown(command));
    ensure!(output.status.code().is_some(), "{} did not refuse but die: {}", shown(command), output.status);
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let began = Instant::now();
    let result = act()?;
    Ok((result, began.elapsed()))
}

fn found(stage: &Stage, story: &mut Story) -> Result<()> {
    story.step("Found an installation: an HSM token of its own (SoftHSM2), keys, catalogue, configuration");
    typed(story, stage.sealtape().arg("init"))?;
    story.step("Start the services: the key authority with its PKCS#11 worker, and the data path");
    story.typed(stage.sealtape().arg("run"));
    let waited = stage.start_services()?;
    story.say(&format!("both answer, and {} is there, after {}", stage.node()?.display(), seconds(waited)));
    Ok(())
}

fn label(stage: &Stage, story: &mut Story, tape: &Path, spare: &Path) -> Result<()> {
    story.step("Two cartridges, which are files here; one is loaded and labelled");
    for (image, barcode) in [(tape, "A00001L8"), (spare, "A00002L8")] {
        let mut create = stage.sealtape();
        create.args(["image", "create"]).arg(image).args(["--capacity", "10G", "--barcode", barcode]);
        typed(story, &mut create)?;
    }
    typed(story, stage.sealtape().args(["volume", "load", "drive0"]).arg(tape))?;
    let label = ["volume", "label", "drive0", "DEMO-1", "--barcode", "A00001L8"];
    story.say(&typed(story, stage.sealtape().args(label))?);
    Ok(())
}

/// `tar` on the node, with its path in front: unmodified GNU tar that believes in a tape.
fn tar(operation: &str, tape: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--blocking-factor", TAR_BLOCKING, operation, "--file"]).arg(tape);
    tar
}

fn mt(stage: &Stage, operation: &[&str]) -> Result<Command> {
    let mut mt = Command::new("mt-st");
    mt.arg("-f").arg(stage.node()?).args(operation);
    Ok(mt)
}

fn name_list(stage: &Stage) -> PathBuf {
    stage.folder().join("files.list")
}

fn write(stage: &Stage, story: &mut Story, sample: &Sample) -> Result<()> {
    story.step("Write two archives with GNU tar, which knows nothing of this");
    let list = name_list(stage);
    sample.write_list(&list)?;
    let mut create = tar("--create", stage.node()?);
    create.args(["--directory", "/", "--null", "--files-from"]).arg(&list);
    let (_, took) = timed(|| typed(story, &mut create))?;
    story.figure("files written", grouped(sample.files.len() as u64));
    story.figure("written and synchronised", rate(sample.bytes, took));

    let mut second = tar("--create", stage.node()?);
    second.arg("--directory").arg(command::root()).args(["Cargo.toml", "Cargo.lock"]);
    typed(story, &mut second)?;
    typed(story, &mut mt(stage, &["rewind"])?)?;
    typed(story, &mut mt(stage, &["fsf", "1"])?)?;
    let names = typed(story, &mut tar("--list", stage.node()?))?;
    ensure!(names == "Cargo.toml\nCargo.lock\n", "the second archive lists {names:?}");
    story.say("the second archive, behind one filemark, lists its two files");
    Ok(())
}

fn inspect(stage: &Stage, story: &mut Story, tape: &Path, sample: &Sample) -> Result<()> {
    story.step("What stands on the medium: a label for whoever finds it, and ciphertext");
    let medium = std::fs::metadata(tape)?.len();
    let at = label_at(tape)?;
    let mut head = Command::new("head");
    head.args(["-c", &(at + LABEL_LENGTH).to_string()]).arg(tape);
    let text = typed(story, &mut head)?;
    let label = text.find("SEALTAPE VOLUME").map(|start| &text[start..]);
    label.context("head shows no label")?.lines().take(24).map(str::trim_end).for_each(|line| story.say(line));
    story.figure("length of the medium", mebibytes(medium));

    let paths: Vec<PathBuf> = sample.files.iter().map(|file| Path::new("/").join(file)).collect();
    let (plaintext, learnt) = timed(|| Plaintext::read(paths.iter().map(PathBuf::as_path)))?;
    // What stands in the clear on purpose is set apart: the header of the file, and the label.
    let (finding, looked) = timed(|| plaintext.look_in(tape, &(0..at + LABEL_LENGTH)))?;
    story.say(&format!(
        "looked for each of {} runs of {RUN} bytes of the files at each of {} places of the medium, in {}",
        grouped(finding.known),
        grouped(finding.asked),
        seconds(learnt + looked)
    ));
    ensure!(finding.common == 0, "{} runs of plaintext stand on the medium", finding.common);

    // The same search where there is something to find, lest it be blind.
    let clear = stage.folder().join("clear.tar");
    let mut archive = tar("--create", &clear);
    archive.args(["--directory", "/"]).args(sample.files.iter().take(20));
    output(&mut archive)?;
    let control = plaintext.look_in(&clear, &search::NOTHING)?;
    std::fs::remove_file(&clear)?;
    ensure!(control.common > 0, "the search finds nothing in a clear archive either");
    story.figure(
        "runs of plaintext found",
        format!("0 (in a clear archive of 20 of the files: {})", grouped(control.common as u64)),
    );
    Ok(())
}

/// Where the label stands in the image.
fn label_at(tape: &Path) -> Result<u64> {
    use std::io::Read;
    let mut start = Vec::new();
    std::fs::File::open(tape)?.take(1 << 20).read_to_end(&mut start)?;
    let at = start.windows(LABEL_MAGIC.len()).position(|window| window == LABEL_MAGIC);
    Ok(at.with_context(|| format!("{} holds no label in its first MiB", tape.display()))? as u64)
}

fn read_back(stage: &Stage, story: &mut Story, sample: &Sample) -> Result<()> {
    story.step("Read it back through the node, and compare");
    typed(story, &mut mt(stage, &["rewind"])?)?;
    let mut compare = tar("--compare", stage.node()?);
    compare.args(["--directory", "/"]);
    let (_, took) = timed(|| typed(story, &mut compare))?;
    story.figure("read and compared by tar", rate(sample.bytes, took));

    typed(story, &mut mt(stage, &["rewind"])?)?;
    let folder = stage.folder().join("restored");
    std::fs::create_dir(&folder)?;
    let mut extract = tar("--extract", stage.node()?);
    extract.arg("--directory").arg(&folder);
    let (_, took) = timed(|| typed(story, &mut extract))?;
    story.figure("restored by tar", rate(sample.bytes, took));
    ensure!(sample.digests(&folder)? == sample.digests(Path::new("/"))?, "restored files differ");
    story.say(&format!("SHA-256 of all {} files agree", grouped(sample.files.len() as u64)));
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn audit(stage: &Stage, story: &mut Story) -> Result<()> {
    story.step("For the auditor: export the custody log, and verify it with a public key alone");
    let export = stage.folder().join("custody.export");
    typed(story, stage.sealtape().args(["audit", "export"]).arg(&export))?;
    let key = stage.folder().join("custody.pub");
    std::fs::write(&key, typed(story, stage.sealtape().args(["audit", "key"]))?)?;
    let verify = |file: &Path| {
        let mut verify = stage.sealtape_elsewhere();
        verify.args(["audit", "verify"]).arg(file).arg("--key").arg(&key);
        verify
    };
    story.say(&typed(story, &mut verify(&export))?);

    let whole = std::fs::read_to_string(&export).with_context(|| export.display().to_string())?;
    let copy = stage.folder().join("custody.tampered");
    let mut refusals = 0;
    for (what, text) in tamper::exports(&whole)? {
        std::fs::write(&copy, text)?;
        let said = refused(story, &mut verify(&copy))?;
        story.say(&format!("{what}: {}", said.lines().next().unwrap_or("refused")));
        refusals += 1;
    }
    story.figure("tampered exports refused", format!("{refusals} of {refusals}"));
    Ok(())
}

fn restore_without_services(stage: &Stage, story: &mut Story, tape: &Path, sample: &Sample) -> Result<()> {
    story.step("After a disaster: no services, the token and the cartridge alone");
    typed(story, stage.sealtape().args(["volume", "unload", "drive0"]))?;
    stage.stop_services()?;
    story.say("services stopped");
    let folder = stage.folder().join("rescued");
    let mut restore = stage.sealtape();
    restore.arg("restore").arg(tape).arg("--out").arg(&folder);
    let (said, took) = timed(|| typed(story, &mut restore))?;
    story.say(&said);
    story.figure("restored without services", rate(sample.bytes, took));

    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    ensure!(files.len() == 2, "two tape files were written, and {} came back", files.len());
    let mut compare = tar("--compare", &files[0]);
    compare.args(["--directory", "/"]);
    typed(story, &mut compare)?;
    let names = typed(story, &mut tar("--list", &files[1]))?;
    ensure!(names == "Cargo.toml\nCargo.lock\n", "the second archive lists {names:?}");
    story.say("both archives are whole");
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn refuse_tampered_tape(stage: &Stage, story: &mut Story, tape: &Path) -> Result<()> {
    story.step("One bit of the ciphertext changed, and all checksums made right again: the record is refused");
    let copy = stage.folder().join("tampered.tape");
    std::fs::copy(tape, &copy)?;
    let object = tamper::change_a_record(&copy, std::fs::metadata(&copy)?.len() / 2)?;
    story.say(&format!("changed: object {object} of the medium"));
    let folder = stage.folder().join("refused");
    let mut restore = stage.sealtape();
    restore.arg("restore").arg(&copy).arg("--out").arg(&folder);
    let said = refused(story, &mut restore)?;
    story.say(&said);
    std::fs::remove_file(&copy)?;
    Ok(())
}

fn keep(stage: &Stage, story: &mut Story, tape: &Path) -> Result<()> {
    story.step("Left running (--keep)");
    story.typed(stage.sealtape().arg("run"));
    stage.start_services()?;
    typed(story, stage.sealtape().args(["volume", "load", "drive0"]).arg(tape))?;
    Ok(())
}

fn tell_what_next(stage: &Stage, spare: &Path) -> Result<()> {
    let sealtape = shown(&stage.sealtape());
    let node = stage.node()?.display();
    let pid = stage.leave_standing();
    println!("\nTo play with it:");
    println!("    mt-st -f {node} rewind; tar -b {TAR_BLOCKING} -tvf {node} | head");
    println!("    {sealtape} drive status");
    println!("    {sealtape} volume list");
    println!("    {sealtape} audit show");
    println!("    {sealtape} volume unload drive0 && {sealtape} volume load drive0 {}", spare.display());
    println!("To end it:");
    if let Some(pid) = pid {
        println!("    kill {pid}      # the next demo removes its folder");
    }
    Ok(())
}

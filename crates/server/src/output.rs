//! What commands print: lines for people, JSON for programs. Colour on terminals alone, and never
//! with `NO_COLOR` (no-color.org).

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::exit::Failed;

/// Lines for people or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people.
    Text,
    /// JSON for programs.
    Json,
}

/// How a line is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is done, or as it should be.
    Good,
    /// It is not as it should be.
    Bad,
    /// Something to know.
    Note,
}

/// Prints a line.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    finish(out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints text as it is.
pub(crate) fn text(text: &str) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    finish(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a line with a mark.
pub(crate) fn marked(mark: Mark, text: impl AsRef<str>) -> Result<(), Failed> {
    let (symbol, colour) = match mark {
        Mark::Good => ("✓", "32"),
        Mark::Bad => ("✗", "31"),
        Mark::Note => ("!", "33"),
    };
    let text = text.as_ref().replace('\n', "\n    ");
    if coloured(&io::stdout()) {
        line(format!("\x1b[{colour}m{symbol}\x1b[0m {text}"))
    } else {
        line(format!("{symbol} {text}"))
    }
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failed> {
    line(serde_json::to_string_pretty(value).map_err(Failed::failed)?)
}

/// Prints why a command failed, on the error stream.
pub(crate) fn error(text: &str) {
    let mut out = io::stderr().lock();
    let head = if coloured(&io::stderr()) { "\x1b[31mchancery:\x1b[0m" } else { "chancery:" };
    // Where the error stream is gone nobody is left to be told.
    let _ = writeln!(out, "{head} {text}");
}

/// Asks a question on the terminal; without one nobody has agreed.
pub(crate) fn agreed(question: &str) -> Result<bool, Failed> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut out = io::stderr().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says what long work is about while it goes on, with the time it has taken; on terminals alone.
pub(crate) fn working<T>(what: &str, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    let spinner = indicatif::ProgressBar::new_spinner().with_message(what.to_owned());
    let style = indicatif::ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let spinner = match style {
        Ok(style) => spinner.with_style(style),
        Err(_) => spinner,
    };
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    let done = work();
    spinner.finish_and_clear();
    done
}

/// Columns, each as wide as its widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<(), Failed> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let show = |cells: Vec<&str>| {
        let mut shown = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            shown.push_str(&format!("{cell:<width$}  "));
        }
        line(shown.trim_end())
    };
    show(head.to_vec())?;
    for row in rows {
        show(row.iter().map(String::as_str).collect())?;
    }
    Ok(())
}

fn coloured(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A reader that went away (`| head`) is no failure.
fn finish(written: io::Result<()>) -> Result<(), Failed> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

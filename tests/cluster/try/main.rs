//! `deploy/try kubernetes`: the examples on a real control plane, with the machinery of the tests. It tells what it does
//! and what came of it, and ends with everything that it has started.

mod story;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Instant,
};

use chancery_cluster_tests::Result;

/// Marks and colours, as `deploy/lib.sh` has them: plain where no terminal looks, or NO_COLOR is set.
struct Teller {
    terminal: bool,
    begin: Instant,
}

impl Teller {
    fn new() -> Self {
        let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal: std::io::stdout().is_terminal() && coloured, begin: Instant::now() }
    }

    /// Says what is done and, once it is, how long it took. What comes of it may add to the line.
    async fn step<T>(&self, title: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begin = Instant::now();
        if self.terminal {
            print(&format!("\r\x1b[K  … {title}"));
        }
        let done = work.await;
        if self.terminal {
            print("\r\x1b[K");
        }
        match &done {
            Ok(_) => print(&format!("  {} {title} {}\n", self.colour("32", "✓"), self.seconds(begin))),
            Err(_) => print(&format!("  {}\n", self.colour("31", &format!("✗ {title}")))),
        }
        done
    }

    fn heading(&self, title: &str) {
        print(&format!("\n{}\n", self.colour("1", title)));
    }

    /// Lines under a heading.
    #[expect(clippy::unused_self, reason = "told like everything else")]
    fn lines<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        for line in lines {
            print(&format!("  {line}\n"));
        }
    }

    fn seconds(&self, begin: Instant) -> String {
        self.colour("2", &format!("({:.1} s)", begin.elapsed().as_secs_f64()))
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whoever has closed the pipe wants to hear no more; what was begun is ended all the same.
fn print(text: &str) {
    let mut output = std::io::stdout();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[tokio::main]
async fn main() -> ExitCode {
    let teller = Teller::new();
    match Box::pin(story::tell(&teller)).await {
        Ok(()) => {
            let seconds = teller.begin.elapsed().as_secs_f64();
            print(&format!("\n{} in {seconds:.1} s; what was started ends with it\n", teller.colour("32", "done")));
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&format!("{} {error}\n", teller.colour("31", "failed:")));
            ExitCode::FAILURE
        }
    }
}

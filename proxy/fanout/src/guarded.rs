//! A panic on a thread of the fan-out ends the process: a policyd that has gone deaf would look alive.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A task whose panic is the end of the process, after the panic's own message on stderr.
struct Guarded<F>(Pin<Box<F>>);

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _guard = AbortOnPanic;
        self.0.as_mut().poll(context)
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("policyd: a thread of the fan-out panicked; ending the process");
            std::process::abort();
        }
    }
}

/// Runs a task on the runtime of the caller's context.
pub(crate) fn spawn<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(tokio::spawn(Guarded(Box::pin(future))));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const CHILD: &str = "FANOUT_PANICS";

    /// Runs itself again, there with a task that panics.
    #[test]
    fn a_panic_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                super::spawn(async { panic!("on purpose") });
                std::future::pending::<()>().await;
            });
        }
        let itself = std::env::current_exe().unwrap();
        let name = "guarded::tests::a_panic_ends_the_process";
        let done = Command::new(itself)
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.signal(), Some(6), "{said}");
        assert!(said.contains("on purpose") && said.contains("ending the process"), "{said}");
    }
}

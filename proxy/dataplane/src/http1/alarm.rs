//! A deadline that is moved with every request and hardly ever reached.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer of a connection. It is set anew only where it would go off too late, or went off too early: to set a timer and
/// drop it again costs more than most of what it guards.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// What comes of `work`; none where it isn't done when `due` comes.
    pub(super) async fn before<T>(
        &mut self,
        due: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(due, context).map(|()| None),
        })
        .await
    }

    fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whatever_the_one_before_was() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        for (seconds, passed) in [(60, 60), (5, 5), (5, 5), (300, 300), (1, 1)] {
            let begun = Instant::now();
            let due = begun + Duration::from_secs(seconds);
            assert_eq!(alarm.before(due, pending::<()>()).await, None);
            assert_eq!(begun.elapsed(), Duration::from_secs(passed));
        }
        let overdue = alarm.before(start, pending::<()>()).await;
        assert_eq!(overdue, None, "what is over is over");
        assert_eq!(alarm.before(start, ready(1)).await, Some(1), "what is done is done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_set_for_another_deadline_does_not_end_this_one() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        let soon = begun + Duration::from_secs(10);
        let late = begun + Duration::from_secs(100);
        let short =
            tokio::time::timeout(Duration::from_secs(1), alarm.before(soon, pending::<()>()));
        assert!(short.await.is_err());
        assert_eq!(alarm.before(late, pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), Duration::from_secs(100));
    }
}

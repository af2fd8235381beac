//! A future that waits beside others for what hardly ever comes.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Says that the inner future was woken, and wakes its task.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

/// `inner`, polled only when it was woken itself: whoever shares its task (a request of the same connection, say) doesn't
/// pay for its waiting.
#[derive(Debug)]
pub(crate) struct Aside<F> {
    inner: F,
    bell: Arc<Bell>,
    waker: Waker,
    /// Whom the bell wakes.
    task: Waker,
}

impl<F: Future + Unpin> Aside<F> {
    pub(crate) fn new(inner: F) -> Self {
        let task = Waker::noop().clone();
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(task.clone()) });
        Self { inner, waker: Waker::from(Arc::clone(&bell)), bell, task }
    }
}

impl<F: Future + Unpin> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.will_wake(context.waker()) {
            this.task.clone_from(context.waker());
            this.bell
                .task
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone_from(context.waker());
        }
        if !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        pin!(&mut this.inner).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_not_with_its_neighbours() {
        let polls = Cell::new(0);
        let (sender, mut receiver) = watch::channel(0);
        let mut changed = pin!(receiver.changed());
        let mut aside = Aside::new(poll_fn(|context| {
            polls.set(polls.get() + 1);
            changed.as_mut().poll(context)
        }));
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut aside => panic!("nothing has changed"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(polls.get(), 1);
        sender.send(1).unwrap();
        aside.await.unwrap();
        assert_eq!(polls.get(), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_polled_it_last() {
        let (sender, mut receiver) = watch::channel(0);
        let mut aside = Aside::new(Box::pin(async move { receiver.changed().await.is_ok() }));
        assert!(futures_are_pending(&mut aside).await);
        let elsewhere = tokio::spawn(aside);
        tokio::task::yield_now().await;
        sender.send(1).unwrap();
        assert!(elsewhere.await.unwrap());
    }

    async fn futures_are_pending<F: Future + Unpin>(future: &mut F) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
    }
}

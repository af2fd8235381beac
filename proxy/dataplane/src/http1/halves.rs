//! The two directions of one connection, for futures of one task: nothing is locked, because nothing here ever moves to
//! another thread.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read from.
#[derive(Debug)]
pub(crate) struct ReadHalf<Io>(Rc<RefCell<Io>>);

/// What is written to.
#[derive(Debug)]
pub(crate) struct WriteHalf<Io>(Rc<RefCell<Io>>);

/// Splits a connection.
pub(super) fn split<Io>(io: Io) -> (ReadHalf<Io>, WriteHalf<Io>) {
    let io = Rc::new(RefCell::new(io));
    (ReadHalf(Rc::clone(&io)), WriteHalf(io))
}

/// Puts the halves of one connection together again; none where they aren't of one.
pub(super) fn join<Io>(read: ReadHalf<Io>, write: WriteHalf<Io>) -> Option<Io> {
    drop(write);
    Rc::into_inner(read.0).map(RefCell::into_inner)
}

impl<Io: AsyncRead + Unpin> AsyncRead for ReadHalf<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for WriteHalf<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(context)
    }
}

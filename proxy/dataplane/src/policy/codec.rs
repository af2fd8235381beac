//! The stream's codec: a big message's bytes are let go with the message after it.
//!
//! tonic gathers a message in a buffer that lives as long as the stream, and grows to its biggest message: megabytes, for a
//! table that comes once a day. A buffer that somebody else has a part of isn't grown into again but left behind; so the
//! decoder keeps each message's bytes until the next one, which comes every minute, has a buffer of its own.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

/// As [`ProstCodec`], but that it doesn't hold on to its biggest message.
#[derive(Debug)]
pub(super) struct LettingGo<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LettingGo<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LettingGo<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Kept<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Kept { last: Bytes::new(), of: PhantomData }
    }
}

/// Decodes, and keeps the bytes of the last message.
#[derive(Debug)]
pub(super) struct Kept<U> {
    last: Bytes,
    of: PhantomData<U>,
}

impl<U: Message + Default> Decoder for Kept<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.last = source.copy_to_bytes(source.remaining());
        let message = U::decode(self.last.clone());
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

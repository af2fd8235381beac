//! A message field by field, so that what is many in it can be decoded one by one.

use crate::SnapshotError;

/// One field of a message.
#[derive(Clone, Copy)]
pub(crate) struct Field<'b> {
    pub(crate) number: u64,
    /// With its key and length.
    pub(crate) whole: &'b [u8],
    /// Of a field that has a length.
    pub(crate) content: Option<&'b [u8]>,
    /// Key and length are as short as they can be.
    pub(crate) minimal: bool,
}

/// The fields of a message, in the order in which they stand there.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, SnapshotError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = first(&mut bytes);
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

fn first<'b>(bytes: &mut &'b [u8]) -> Result<Field<'b>, SnapshotError> {
    let before = *bytes;
    let (key, mut minimal) = minimal_varint(bytes)?;
    let content = match key & 7 {
        0 => {
            varint(bytes)?;
            None
        }
        1 => skip(bytes, 8)?,
        5 => skip(bytes, 4)?,
        2 => {
            let (length, short) = minimal_varint(bytes)?;
            minimal &= short;
            let length = usize::try_from(length).map_err(|_| malformed())?;
            let (content, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
            *bytes = rest;
            Some(content)
        }
        _ => return Err(malformed()),
    };
    let whole = before.get(..before.len() - bytes.len()).unwrap_or_default();
    Ok(Field { number: key >> 3, whole, content, minimal })
}

fn skip<'b>(bytes: &mut &'b [u8], count: usize) -> Result<Option<&'b [u8]>, SnapshotError> {
    *bytes = bytes.get(count..).ok_or_else(malformed)?;
    Ok(None)
}

fn minimal_varint(bytes: &mut &[u8]) -> Result<(u64, bool), SnapshotError> {
    let before = bytes.len();
    let number = varint(bytes)?;
    Ok((number, before - bytes.len() == prost::encoding::encoded_len_varint(number)))
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, SnapshotError> {
    prost::encoding::decode_varint(bytes)
        .map_err(|error| SnapshotError::Malformed(error.to_string()))
}

pub(crate) fn malformed() -> SnapshotError {
    SnapshotError::Malformed("it ends in the middle of a field".into())
}

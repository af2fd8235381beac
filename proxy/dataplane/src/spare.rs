//! Requests that are over: their memory is used for the next ones, so that a request costs no allocation.

use std::cell::RefCell;
use std::rc::Rc;

use engine::request::CanonicalRequest;

use crate::limits;

/// The requests that one worker keeps, a bounded number of bounded size.
#[derive(Debug, Default)]
pub struct Spare(RefCell<Vec<Rc<CanonicalRequest>>>);

impl Spare {
    /// What `read` makes of the memory of one of them.
    ///
    /// # Errors
    /// Whatever `read` fails with.
    pub fn read<E>(
        &self,
        read: impl FnOnce(CanonicalRequest) -> Result<CanonicalRequest, E>,
    ) -> Result<Rc<CanonicalRequest>, E> {
        let mut place = self.0.borrow_mut().pop().unwrap_or_default();
        let former = Rc::get_mut(&mut place).map(std::mem::take).unwrap_or_default();
        let request = read(former)?;
        match Rc::get_mut(&mut place) {
            Some(free) => *free = request,
            None => place = Rc::new(request),
        }
        Ok(place)
    }

    /// Keeps one that nobody else has a hand on, if it isn't big, nor one too many.
    pub fn keep(&self, mut request: Rc<CanonicalRequest>) {
        let mut all = self.0.borrow_mut();
        if all.len() < limits::SPARE_REQUESTS
            && request.memory() <= limits::SPARE_REQUEST_BYTES
            && Rc::get_mut(&mut request).is_some()
        {
            all.push(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::gate::{GateProfile, Refusal, http1_into};

    use super::*;

    fn read(spare: &Spare, head: &str) -> Rc<CanonicalRequest> {
        let profile = GateProfile::default();
        let read = |reuse| http1_into(reuse, head.as_bytes(), &profile);
        spare.read::<Refusal>(read).unwrap()
    }

    #[test]
    fn the_next_request_takes_the_place_of_one_that_is_over() {
        let spare = Spare::default();
        let first = read(&spare, "GET /a HTTP/1.1\r\nhost: a\r\nx: 1\r\n\r\n");
        let place = Rc::as_ptr(&first);
        spare.keep(first);
        let second = read(&spare, "GET /b HTTP/1.1\r\nhost: b\r\n\r\n");
        assert_eq!(Rc::as_ptr(&second), place);
        let head = "GET /b HTTP/1.1\r\nhost: b\r\n\r\n";
        assert_eq!(*second, *read(&Spare::default(), head), "nothing of the first is left");
    }

    #[test]
    fn one_that_somebody_still_looks_at_is_not_kept() {
        let spare = Spare::default();
        let request = read(&spare, "GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
        let looking = Rc::downgrade(&request);
        spare.keep(request);
        assert!(looking.upgrade().is_none() && spare.0.borrow().is_empty());
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let spare = Spare::default();
        let long =
            format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(limits::SPARE_REQUEST_BYTES));
        spare.keep(read(&spare, &long));
        assert!(spare.0.borrow().is_empty());
        let many: Vec<_> = (0..=limits::SPARE_REQUESTS)
            .map(|_| read(&spare, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"))
            .collect();
        for request in many {
            spare.keep(request);
        }
        assert_eq!(spare.0.borrow().len(), limits::SPARE_REQUESTS);
    }
}

//! What changes of discovery leave of what is known.

use super::*;
use crate::generated;

fn discovery(ports: &[u32]) -> Arc<Discovery> {
    let endpoint = |port: &u32| generated::Endpoint {
        address: "127.0.0.1".to_owned(),
        port: *port,
        ..generated::Endpoint::default()
    };
    let message = generated::Discovery {
        services: vec![generated::ServicePort {
            service: "books/authors:80".to_owned(),
            endpoints: ports.iter().map(endpoint).collect(),
            name: String::new(),
        }],
        outbound_plaintext: "Allow".to_owned(),
    };
    Arc::new(Discovery::read(&message).unwrap())
}

fn callees() -> Callees {
    Callees::new("books/authors:80", Rc::default(), Arc::default())
}

fn port_of(callee: &Callee) -> u16 {
    callee.endpoint.address.port()
}

fn break_circuit(callee: &Rc<Callee>) {
    for _ in 0..limits::DIAL_FAILURES {
        callee.dial().failed(Trouble::Refused);
    }
}

#[test]
fn endpoints_that_stay_keep_what_is_known_of_them() {
    let callees = callees();
    callees.refresh(&discovery(&[1, 2]));
    let one = callees.choose(|callee| port_of(callee) == 1).unwrap();
    let two = callees.choose(|callee| port_of(callee) == 2).unwrap();
    break_circuit(&one);
    let flight = two.begin();
    callees.refresh(&discovery(&[3, 1, 1]));
    assert!(callees.choose(|callee| Rc::ptr_eq(callee, &two)).is_none());
    assert!(two.gone.get() && !one.gone.get());
    assert_eq!(callees.all.borrow().len(), 2);
    assert_eq!(port_of(&callees.choose(|_| true).unwrap()), 3);
    drop((flight, two));
    assert_eq!((callees.metrics.in_flight.get(), callees.metrics.resting.get()), (0, 1));
    drop(one);
    callees.refresh(&discovery(&[]));
    assert_eq!(callees.metrics.resting.get(), 0);
    assert!(callees.choose(|_| true).is_none());
}

#[test]
fn an_endpoint_with_another_identity_is_another_endpoint() {
    let callees = callees();
    callees.refresh(&discovery(&[1]));
    let plain = callees.first().unwrap();
    let mut meshed = plain.endpoint.clone();
    meshed.identity = Some("spiffe://td/ns/books/sa/authors".into());
    assert_ne!(plain.endpoint, meshed);
    let message = generated::Discovery {
        services: vec![generated::ServicePort {
            service: "books/authors:80".to_owned(),
            endpoints: vec![generated::Endpoint {
                address: "127.0.0.1".to_owned(),
                port: 1,
                identity: "spiffe://td/ns/books/sa/authors".to_owned(),
                ..generated::Endpoint::default()
            }],
            name: String::new(),
        }],
        outbound_plaintext: "Allow".to_owned(),
    };
    callees.refresh(&Arc::new(Discovery::read(&message).unwrap()));
    assert!(plain.gone.get());
    assert_eq!(callees.first().unwrap().endpoint, meshed);
}

#[test]
fn of_those_that_rest_the_one_that_rests_longest_is_tried() {
    let callees = callees();
    callees.refresh(&discovery(&[1, 2]));
    let one = callees.choose(|callee| port_of(callee) == 1).unwrap();
    let two = callees.choose(|callee| port_of(callee) == 2).unwrap();
    break_circuit(&two);
    assert_eq!(port_of(&callees.choose(|_| true).unwrap()), 1);
    break_circuit(&one);
    assert_eq!(port_of(&callees.choose(|_| true).unwrap()), 2);
    assert_eq!(callees.metrics.resting.get(), 2);
    two.dial().reached();
    assert_eq!(port_of(&callees.choose(|_| true).unwrap()), 2);
    assert_eq!(callees.metrics.resting.get(), 1);
}

#[test]
fn our_own_faults_let_nobody_rest() {
    let callees = callees();
    callees.refresh(&discovery(&[1]));
    let one = callees.first().unwrap();
    for _ in 0..2 * limits::DIAL_FAILURES {
        one.dial().failed(Trouble::Ours);
    }
    assert_eq!(callees.metrics.resting.get(), 0);
}

// Gateway API's own examples of what is invalid, which the reader must not take for something wider.
module policyd.dev/tests/gateway

go 1.25.0

require sigs.k8s.io/gateway-api v1.5.0

// Callers and servers of the Go world for tests, built by tests/servers/fetch_go_peers.py.
//
// The newest versions that Go 1.23 takes, the oldest Go that builds the other Go programs of the tests.
module hostmesh.test/go_peers

go 1.23.0

require (
	golang.org/x/net v0.41.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250707201910-8d1bb00bc6a7
	google.golang.org/grpc v1.75.1
	google.golang.org/protobuf v1.36.6
)

require (
	golang.org/x/sys v0.33.0 // indirect
	golang.org/x/text v0.26.0 // indirect
)

// Peers of the Go world for hostmesh's tests: grpc-go and net/http, as server and as caller.
//
//	go_peers serve OPTIONS   a gRPC server        (grpc_serve.go)
//	go_peers call OPTIONS    a gRPC channel       (grpc_call.go)
//	go_peers web OPTIONS     an HTTP server       (http_serve.go)
//	go_peers fetch OPTIONS   an HTTP client       (http_call.go)
//
// OPTIONS is a JSON object. A program answers each line of its input, a JSON object with "op", with one line of
// JSON, and ends with its input. A server's first line says its port.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"
	"time"
)

// Options of all four; a program reads what concerns it.
type Options struct {
	Name string `json:"name"` // a server's, told in answers
	Kind string `json:"kind"` // HTTP: "h1", "h2c" (prior knowledge), "tls" (h2 by ALPN), "tls1" (HTTP/1.1 in TLS)
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca"`

	MaxAgeMs    int `json:"max_age_ms"`   // gRPC server: MaxConnectionAge
	MinPingMs   int `json:"min_ping_ms"`  // gRPC server: EnforcementPolicy.MinTime instead of its default
	KeepaliveMs int `json:"keepalive_ms"` // gRPC: Time of keepalive, of channels also without streams
	MaxStreams  int `json:"max_streams"`  // gRPC server: MaxConcurrentStreams

	Ports     []int  `json:"ports"`     // a caller's: one, or several for round_robin
	Authority string `json:"authority"` // of a caller
}

// Order is one line of input; each op reads what concerns it.
type Order struct {
	Op        string            `json:"op"`
	ID        int               `json:"id"`
	Counts    map[string]int    `json:"counts"`
	Kind      string            `json:"kind"`
	Messages  []string          `json:"messages"`
	Size      int               `json:"size"`
	Metadata  [][2]string       `json:"metadata"` // values of "-bin" keys are latin-1
	TimeoutMs int               `json:"timeout_ms"`
	Gzip      bool              `json:"gzip"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Header    map[string]string `json:"header"`
	Trailer   map[string]string `json:"trailer"`
	Number    int               `json:"number"`
	Service   string            `json:"service"`
	Status    string            `json:"status"`
}

// Answer is one line of output.
type Answer map[string]any

// Counts are what a program has seen, and a way to wait for them.
type Counts struct {
	sync.Mutex
	changed *sync.Cond
	values  map[string]int
}

func newCounts() *Counts {
	c := &Counts{values: map[string]int{}}
	c.changed = sync.NewCond(&c.Mutex)
	return c
}

func (c *Counts) add(what string) {
	c.Lock()
	c.values[what]++
	c.Unlock()
	c.changed.Broadcast()
}

// wait returns all counts once each of those that the order names has reached its number, or when its time is over.
func (c *Counts) wait(order Order) Answer {
	end := time.Now().Add(time.Duration(order.TimeoutMs) * time.Millisecond)
	defer time.AfterFunc(time.Until(end), c.changed.Broadcast).Stop()
	c.Lock()
	defer c.Unlock()
	for !c.reached(order.Counts) && time.Now().Before(end) {
		c.changed.Wait()
	}
	found := Answer{}
	for what, number := range c.values {
		found[what] = number
	}
	return found
}

func (c *Counts) reached(wanted map[string]int) bool {
	for what, number := range wanted {
		if c.values[what] < number {
			return false
		}
	}
	return true
}

// say writes one line of output.
func say(answer Answer) {
	line, err := json.Marshal(answer)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// obey answers the lines of the input, one after the other, until it ends.
func obey(act func(Order) Answer) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var order Order
		check(json.Unmarshal(lines.Bytes(), &order))
		say(act(order))
	}
}

func main() {
	var options Options
	check(json.Unmarshal([]byte(os.Args[2]), &options))
	switch os.Args[1] {
	case "serve":
		serveGRPC(options)
	case "call":
		callGRPC(options)
	case "web":
		serveHTTP(options)
	case "fetch":
		callHTTP(options)
	default:
		log.Panicf("unknown: %s", os.Args[1])
	}
}

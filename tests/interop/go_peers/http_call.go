package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// transport speaks the version that the options name, and nothing else, to the one port they name.
func transport(options Options) http.RoundTripper {
	address := fmt.Sprintf("127.0.0.1:%d", options.Ports[0])
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	// Long enough that only a 100 sets a body free.
	found := &http.Transport{DialContext: dial, ExpectContinueTimeout: time.Minute}
	if options.Kind == "tls" || options.Kind == "tls1" {
		pem, err := os.ReadFile(options.CA)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		found.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "web.mesh"}
		found.ForceAttemptHTTP2 = options.Kind == "tls"
	}
	if options.Kind == "h2c" {
		// Made of the other one, so that it waits for a 100, too.
		prior, err := http2.ConfigureTransports(found)
		check(err)
		prior.AllowHTTP, prior.ConnPool = true, nil
		prior.DialTLSContext = func(ctx context.Context, network, name string, _ *tls.Config) (net.Conn, error) {
			return dial(ctx, network, name)
		}
		return prior
	}
	return found
}

// endless is a body that is made while it is read, and knows how much of it was.
type endless struct {
	left int64
	sent atomic.Int64
	sum  interface{ Write([]byte) (int, error) }
}

func (e *endless) Read(data []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := int(min(e.left, int64(len(data))))
	for i := range n {
		data[i] = byte(i)
	}
	_, _ = e.sum.Write(data[:n])
	e.left -= int64(n)
	e.sent.Add(int64(n))
	return n, nil
}

type client struct {
	http.RoundTripper
	url string
}

// request builds one, with its trailers announced.
func (c client) request(ctx context.Context, order Order, body io.Reader) *http.Request {
	method := order.Method
	if method == "" {
		method = "POST"
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+order.Path, body)
	check(err)
	for name, value := range order.Header {
		request.Header.Set(name, value)
	}
	if len(order.Trailer) > 0 {
		request.Trailer = http.Header{}
		for name, value := range order.Trailer {
			request.Trailer.Set(name, value)
		}
	}
	return request
}

// upload sends "size" octets and reads the answer; without a length if "number" is -1.
func (c client) upload(order Order) Answer {
	sum, got := sha256.New(), sha256.New()
	body := &endless{left: int64(order.Size), sum: sum}
	var continued atomic.Bool
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got100Continue: func() { continued.Store(true) },
	})
	request := c.request(ctx, order, body)
	if order.Number >= 0 {
		request.ContentLength = int64(order.Size)
	}
	response, err := c.RoundTrip(request)
	if err != nil {
		return Answer{"error": err.Error(), "sent": body.sent.Load()}
	}
	defer response.Body.Close()
	var text strings.Builder
	size, err := io.Copy(io.MultiWriter(got, &limited{&text}), response.Body)
	answer := Answer{
		"status": response.StatusCode, "proto": response.Proto, "size": size, "text": text.String(),
		"sent": body.sent.Load(), "continued": continued.Load(), "header": response.Header,
		"trailer": response.Trailer, "same": hex.EncodeToString(sum.Sum(nil)) == hex.EncodeToString(got.Sum(nil)),
		"sum": hex.EncodeToString(sum.Sum(nil)),
	}
	if err != nil {
		answer["error"] = err.Error()
	}
	return answer
}

// limited keeps the first thousand octets.
type limited struct{ *strings.Builder }

func (l *limited) Write(data []byte) (int, error) {
	l.Builder.Write(data[:min(len(data), 1000-min(1000, l.Builder.Len()))])
	return len(data), nil
}

// talk sends "number" pieces, each of them after the one before has come back.
func (c client) talk(order Order) Answer {
	reader, writer := io.Pipe()
	request := c.request(context.Background(), order, reader)
	var response *http.Response
	came := make(chan error, 1)
	go func() {
		var err error
		response, err = c.RoundTrip(request)
		came <- err
	}()
	for n := range order.Number {
		piece := fmt.Sprintf("piece %d", n)
		if _, err := writer.Write([]byte(piece)); err != nil {
			return Answer{"error": err.Error()}
		}
		if n == 0 {
			if err := <-came; err != nil {
				return Answer{"error": err.Error()}
			}
		}
		back := make([]byte, len(piece))
		if _, err := io.ReadFull(response.Body, back); err != nil || string(back) != piece {
			return Answer{"error": fmt.Sprint(n, err, string(back))}
		}
	}
	check(writer.Close())
	rest, err := io.ReadAll(response.Body)
	if err != nil || len(rest) > 0 {
		return Answer{"error": fmt.Sprint(err, rest)}
	}
	return Answer{
		"status": response.StatusCode, "proto": response.Proto, "header": response.Header, "trailer": response.Trailer,
	}
}

// switched asks for another protocol and says "number" lines, each after the answer to the one before.
func (c client) switched(order Order) Answer {
	request := c.request(context.Background(), order, nil)
	request.Header.Set("Connection", "Upgrade")
	response, err := c.RoundTrip(request)
	if err != nil {
		return Answer{"error": err.Error()}
	}
	answer := Answer{"status": response.StatusCode, "upgrade": response.Header.Get("Upgrade")}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return answer
	}
	conn := response.Body.(io.ReadWriteCloser)
	lines, found := bufio.NewScanner(conn), []string{}
	for n := range order.Number {
		if _, err := fmt.Fprintf(conn, "line %d\n", n); err != nil || !lines.Scan() {
			return Answer{"error": fmt.Sprint(n, err, lines.Err())}
		}
		found = append(found, lines.Text())
	}
	check(conn.Close())
	answer["lines"] = found
	return answer
}

func callHTTP(options Options) {
	scheme := "http"
	if strings.HasPrefix(options.Kind, "tls") {
		scheme = "https"
	}
	c := client{transport(options), scheme + "://" + options.Authority}
	cancels := map[int]context.CancelFunc{}
	ends := map[int]chan Answer{}
	obey(func(order Order) Answer {
		switch order.Op {
		case "upload":
			return c.upload(order)
		case "talk":
			return c.talk(order)
		case "switch":
			return c.switched(order)
		case "start":
			// A request without a body, or with one that goes on and on.
			ctx, cancel := context.WithCancel(context.Background())
			id, end := len(cancels), make(chan Answer, 1)
			cancels[id], ends[id] = cancel, end
			var body io.Reader
			if order.Size > 0 {
				body = &endless{left: int64(order.Size), sum: io.Discard}
			}
			request := c.request(ctx, order, body)
			go func() {
				response, err := c.RoundTrip(request)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
				}
				end <- Answer{"error": fmt.Sprint(err)}
			}()
			return Answer{"id": id}
		case "cancel":
			cancels[order.ID]()
			return <-ends[order.ID]
		}
		return Answer{}
	})
}

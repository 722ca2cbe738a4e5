package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var methods = map[string]string{
	"unary": "Unary", "client": "ClientStream", "server": "ServerStream", "bidi": "BidiStream",
}

// seen is what the stats of one call say beyond its results.
type seen struct {
	head, trailer bool
	compression   string
}

type seenKey struct{}

type seeing struct{}

func (seeing) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (seeing) HandleRPC(ctx context.Context, event stats.RPCStats) {
	found, ok := ctx.Value(seenKey{}).(*seen)
	if !ok {
		return
	}
	switch event := event.(type) {
	case *stats.InHeader:
		found.head, found.compression = true, event.Compression
	case *stats.InTrailer:
		found.trailer = true
	}
}
func (seeing) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (seeing) HandleConn(context.Context, stats.ConnStats)                       {}

// running is a call that was started, and its result when it has ended.
type running struct {
	cancel context.CancelFunc
	result chan Answer
}

type channel struct {
	*grpc.ClientConn
}

// messagesOf are those of the order; "size" makes them long.
func messagesOf(order Order) [][]byte {
	var found [][]byte
	for _, text := range order.Messages {
		found = append(found, []byte(text))
	}
	for i := range found {
		if order.Size > 0 {
			found[i] = []byte(strings.Repeat("m", order.Size))
		}
	}
	return found
}

// call makes one call and reads it to its end.
func (c channel) call(ctx context.Context, order Order) Answer {
	if order.TimeoutMs > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(order.TimeoutMs)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	for _, pair := range order.Metadata {
		value := pair[1]
		if strings.HasSuffix(pair[0], "-bin") {
			value = fromLatin(value)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, pair[0], value)
	}
	found := &seen{}
	ctx = context.WithValue(ctx, seenKey{}, found)
	options := []grpc.CallOption{grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(largest)}
	if order.Gzip {
		options = append(options, grpc.UseCompressor("gzip"))
	}
	head, trailer, answers, err := c.exchange(ctx, order.Kind, messagesOf(order), options)
	verdict := status.Convert(err)
	answer := Answer{
		"code": int(verdict.Code()), "details": verdict.Message(), "header": plain(head), "trailer": plain(trailer),
		"trailers_only": found.trailer && !found.head, "compression": found.compression,
	}
	texts, sizes := []string{}, []int{}
	for _, each := range answers {
		sizes = append(sizes, len(each))
		if len(each) < 1000 {
			texts = append(texts, string(each))
		}
	}
	answer["messages"], answer["sizes"] = texts, sizes
	rich := []string{}
	for _, detail := range verdict.Details() {
		if text, ok := detail.(*wrapperspb.StringValue); ok {
			rich = append(rich, text.Value)
		}
	}
	answer["rich"] = rich
	return answer
}

func (c channel) exchange(
	ctx context.Context, kind string, messages [][]byte, options []grpc.CallOption,
) (head, trailer metadata.MD, answers [][]byte, err error) {
	method := "/test.Echo/" + methods[kind]
	if kind == "unary" {
		var response []byte
		err = c.Invoke(ctx, method, &messages[0], &response, append(options, grpc.Header(&head), grpc.Trailer(&trailer))...)
		if err == nil {
			answers = append(answers, response)
		}
		return
	}
	description := &grpc.StreamDesc{ClientStreams: kind != "server", ServerStreams: kind != "client"}
	stream, err := c.NewStream(ctx, description, method, options...)
	if err != nil {
		return
	}
	// Sent beside reading: a long stream both ways would fill all windows.
	go func() {
		for i := range messages {
			if stream.SendMsg(&messages[i]) != nil {
				return // the error is RecvMsg's
			}
		}
		_ = stream.CloseSend()
	}()
	for {
		var response []byte
		if err = stream.RecvMsg(&response); err != nil {
			break
		}
		answers = append(answers, response)
		if kind == "client" {
			break
		}
	}
	if err == io.EOF {
		err = nil
	}
	head, _ = stream.Header()
	trailer = stream.Trailer()
	return
}

// plain is metadata with octets above 0x7f as latin-1.
func plain(md metadata.MD) map[string][]string {
	found := map[string][]string{}
	for key, values := range md {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = toLatin(value)
			}
			found[key] = append(found[key], value)
		}
	}
	return found
}

func toLatin(octets string) string {
	runes := make([]rune, len(octets))
	for i := range len(octets) {
		runes[i] = rune(octets[i])
	}
	return string(runes)
}

func fromLatin(text string) string {
	var octets []byte
	for _, each := range text {
		octets = append(octets, byte(each))
	}
	return string(octets)
}

// load makes calls, so many at once, until it is told to stop.
type load struct {
	stop    chan struct{}
	workers sync.WaitGroup
	mutex   sync.Mutex
	served  map[string]int
	failed  []string
	counts  *Counts
}

func (c channel) begin(order Order, counts *Counts) *load {
	l := &load{stop: make(chan struct{}), served: map[string]int{}, counts: counts}
	for range order.Number {
		l.workers.Add(1)
		go func() {
			defer l.workers.Done()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				answer := c.call(context.Background(), order)
				l.mutex.Lock()
				if answer["code"] == int(codes.OK) {
					for _, name := range answer["trailer"].(map[string][]string)["x-served-by"] {
						l.served[name]++
						counts.add("served " + name)
					}
				} else if len(l.failed) < 10 {
					l.failed = append(l.failed, fmt.Sprint(answer["code"], " ", answer["details"]))
				}
				l.mutex.Unlock()
			}
		}()
	}
	return l
}

func (l *load) end() Answer {
	close(l.stop)
	l.workers.Wait()
	return Answer{"served": l.served, "failed": append([]string{}, l.failed...)}
}

func callGRPC(options Options) {
	counts := newCounts()
	addresses := manual.NewBuilderWithScheme("those")
	state := resolver.State{}
	for _, port := range options.Ports {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	addresses.InitialState(state)
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return watch(conn, counts, false), nil
	}
	chosen := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(options.Authority),
		grpc.WithContextDialer(dial), grpc.WithStatsHandler(seeing{}), grpc.WithDisableRetry(),
		grpc.WithResolvers(addresses), grpc.WithMaxHeaderListSize(1 << 20),
	}
	if options.KeepaliveMs > 0 {
		often := time.Duration(options.KeepaliveMs) * time.Millisecond
		chosen = append(chosen, grpc.WithKeepaliveParams(
			keepalive.ClientParameters{Time: often, Timeout: 5 * time.Second, PermitWithoutStream: true}))
	}
	if len(options.Ports) > 1 {
		chosen = append(chosen, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	}
	conn, err := grpc.NewClient("those:///", chosen...)
	check(err)
	c := channel{conn}
	calls := map[int]running{}
	var continuous *load
	var watching healthpb.Health_WatchClient
	var dripping grpc.ClientStream
	obey(func(order Order) Answer {
		switch order.Op {
		case "call":
			return c.call(context.Background(), order)
		case "start":
			ctx, cancel := context.WithCancel(context.Background())
			started := running{cancel, make(chan Answer, 1)}
			calls[len(calls)] = started
			go func() { started.result <- c.call(ctx, order) }()
			return Answer{"id": len(calls) - 1}
		case "cancel":
			calls[order.ID].cancel()
		case "result":
			return <-calls[order.ID].result
		case "begin":
			continuous = c.begin(order, counts)
		case "end":
			return continuous.end()
		case "wait":
			return counts.wait(order)
		case "connect":
			conn.Connect()
		case "open":
			// A client stream whose messages are sent one by one.
			description := &grpc.StreamDesc{ClientStreams: true}
			dripping, err = c.NewStream(context.Background(), description, "/test.Echo/ClientStream", grpc.ForceCodec(raw{}))
			check(err)
		case "send":
			message := []byte(order.Messages[0])
			return Answer{"error": fmt.Sprint(dripping.SendMsg(&message))}
		case "finish":
			var response []byte
			check(dripping.CloseSend())
			err := dripping.RecvMsg(&response)
			return Answer{"code": int(status.Code(err)), "details": fmt.Sprint(err), "message": string(response)}
		case "watch":
			request := &healthpb.HealthCheckRequest{Service: order.Service}
			watching, err = healthpb.NewHealthClient(conn).Watch(context.Background(), request)
			check(err)
		case "next":
			response, err := watching.Recv()
			if err != nil {
				return Answer{"error": err.Error()}
			}
			return Answer{"status": response.Status.String()}
		}
		return Answer{}
	})
}

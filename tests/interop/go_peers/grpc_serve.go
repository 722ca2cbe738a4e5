package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const largest = 64 << 20

// raw is a codec for messages that are bytes, beside protobuf ones. It has protobuf's name, so content-type is the
// usual one.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) {
	if message, ok := v.(proto.Message); ok {
		return proto.Marshal(message)
	}
	return *v.(*[]byte), nil
}

func (raw) Unmarshal(data []byte, v any) error {
	if message, ok := v.(proto.Message); ok {
		return proto.Unmarshal(data, message)
	}
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }

// echo has the four kinds of calls. What they do is in their metadata, as in tests/grpc_peers.py:
//
//	x-status      end with this code
//	x-details-bin its text
//	x-rich        and with a google.rpc.Status that has this StringValue in its details
//	x-size        octets of each response message; without it messages are echoed
//	x-count       response messages of a server stream
//	x-hold        wait before the answer, until the order "release" or the end of the call
//	x-hold-end    the same between the messages and the status
//	x-echo-*      come back in the head and in the trailers
type echo struct {
	name    string
	counts  *Counts
	mutex   sync.Mutex
	release chan struct{}
}

func (e *echo) released() chan struct{} {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.release
}

// guarded does what the metadata says around the messages that answer sends.
func (e *echo) guarded(
	ctx context.Context, setHead func(metadata.MD) error, setTrailer func(metadata.MD), answer func() error,
) (err error) {
	e.counts.add("started")
	defer func() {
		switch {
		case ctx.Err() != nil:
			e.counts.add("cancelled")
		case err != nil:
			e.counts.add("failed")
		default:
			e.counts.add("completed")
		}
	}()
	got, _ := metadata.FromIncomingContext(ctx)
	head, trailer := metadata.MD{}, metadata.MD{"x-served-by": {e.name}}
	for key, values := range got {
		if strings.HasPrefix(key, "x-echo-") {
			head[key], trailer[key] = values, values
		}
	}
	if compression := compressionOf(ctx); compression != "" {
		trailer["x-compression"] = []string{compression}
	}
	if deadline, ok := ctx.Deadline(); ok {
		trailer["x-time-left-ms"] = []string{strconv.Itoa(int(time.Until(deadline).Milliseconds()))}
	}
	setTrailer(trailer)
	if len(head) > 0 {
		if err := setHead(head); err != nil {
			return err
		}
	}
	if err := e.hold(ctx, got["x-hold"]); err != nil {
		return err
	}
	if err := answer(); err != nil {
		return err
	}
	if err := e.hold(ctx, got["x-hold-end"]); err != nil {
		return err
	}
	return verdict(got)
}

// hold waits if it is asked to.
func (e *echo) hold(ctx context.Context, asked []string) error {
	if len(asked) == 0 {
		return nil
	}
	select {
	case <-e.released():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verdict is the error that the metadata asks for.
func verdict(got metadata.MD) error {
	if len(got["x-status"]) == 0 {
		return nil
	}
	code, err := strconv.Atoi(got["x-status"][0])
	check(err)
	text := strings.Join(got["x-details-bin"], "")
	if len(got["x-rich"]) == 0 {
		return status.Error(codes.Code(code), text)
	}
	detail, err := anypb.New(wrapperspb.String(text))
	check(err)
	return status.ErrorProto(&spb.Status{Code: int32(code), Message: text, Details: []*anypb.Any{detail}})
}

func number(ctx context.Context, key string, otherwise int) int {
	got, _ := metadata.FromIncomingContext(ctx)
	if len(got[key]) == 0 {
		return otherwise
	}
	found, err := strconv.Atoi(got[key][0])
	check(err)
	return found
}

func message(ctx context.Context, request []byte) *[]byte {
	if size := number(ctx, "x-size", -1); size >= 0 {
		request = make([]byte, size)
	}
	return &request
}

func (e *echo) unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	set := func(md metadata.MD) error { return grpc.SetHeader(ctx, md) }
	err := e.guarded(ctx, set, func(md metadata.MD) { check(grpc.SetTrailer(ctx, md)) }, func() error { return nil })
	return message(ctx, request), err
}

func (e *echo) clientStream(_ any, stream grpc.ServerStream) error {
	return e.guarded(stream.Context(), stream.SetHeader, stream.SetTrailer, func() error {
		count, size := 0, 0
		for {
			var request []byte
			err := stream.RecvMsg(&request)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			count, size = count+1, size+len(request)
		}
		if number(stream.Context(), "x-status", 0) != 0 {
			return nil
		}
		return stream.SendMsg(message(stream.Context(), fmt.Appendf(nil, "%d %d", count, size)))
	})
}

func (e *echo) serverStream(_ any, stream grpc.ServerStream) error {
	return e.guarded(stream.Context(), stream.SetHeader, stream.SetTrailer, func() error {
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		for n := range number(stream.Context(), "x-count", 1) {
			if err := stream.SendMsg(message(stream.Context(), fmt.Appendf(nil, "%s %d", request, n))); err != nil {
				return err
			}
			e.counts.add("sent")
		}
		return nil
	})
}

func (e *echo) bidiStream(_ any, stream grpc.ServerStream) error {
	return e.guarded(stream.Context(), stream.SetHeader, stream.SetTrailer, func() error {
		for {
			var request []byte
			err := stream.RecvMsg(&request)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := stream.SendMsg(message(stream.Context(), request)); err != nil {
				return err
			}
			e.counts.add("sent")
		}
	})
}

// compressions remembers what a call's messages are compressed with, which handlers are not told.
type compressions struct{}

type compressionKey struct{}

func compressionOf(ctx context.Context) string {
	return *ctx.Value(compressionKey{}).(*string)
}

func (compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, compressionKey{}, new(string))
}

func (compressions) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if head, ok := event.(*stats.InHeader); ok {
		*ctx.Value(compressionKey{}).(*string) = head.Compression
	}
}

func (compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (compressions) HandleConn(context.Context, stats.ConnStats)                       {}

func serveGRPC(options Options) {
	counts := newCounts()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	chosen := []grpc.ServerOption{
		grpc.ForceServerCodec(raw{}), grpc.MaxRecvMsgSize(largest), grpc.StatsHandler(compressions{}),
	}
	chosen = append(chosen, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: time.Duration(options.MaxAgeMs) * time.Millisecond,
		Time:             time.Duration(options.KeepaliveMs) * time.Millisecond,
	}))
	if options.MinPingMs > 0 {
		least := time.Duration(options.MinPingMs) * time.Millisecond
		chosen = append(chosen, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: least}))
	}
	if options.MaxStreams > 0 {
		chosen = append(chosen, grpc.MaxConcurrentStreams(uint32(options.MaxStreams)))
	}
	server := grpc.NewServer(chosen...)
	e := &echo{name: options.Name, counts: counts, release: make(chan struct{})}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: e.unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "ClientStream", Handler: e.clientStream, ClientStreams: true},
			{StreamName: "ServerStream", Handler: e.serverStream, ServerStreams: true},
			{StreamName: "BidiStream", Handler: e.bidiStream, ClientStreams: true, ServerStreams: true},
		},
	}, e)
	healthy := health.NewServer()
	healthpb.RegisterHealthServer(server, healthy)
	go func() { check(server.Serve(watchedListener{listener, counts})) }()
	say(Answer{"port": listener.Addr().(*net.TCPAddr).Port})
	obey(func(order Order) Answer {
		switch order.Op {
		case "wait":
			return counts.wait(order)
		case "release":
			e.mutex.Lock()
			close(e.release)
			e.release = make(chan struct{})
			e.mutex.Unlock()
		case "stop":
			// Running calls end first.
			go func() {
				server.GracefulStop()
				counts.add("stopped")
			}()
		case "health":
			healthy.SetServingStatus(order.Service, healthpb.HealthCheckResponse_ServingStatus(
				healthpb.HealthCheckResponse_ServingStatus_value[order.Status]))
		}
		return Answer{}
	})
}

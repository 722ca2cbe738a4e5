package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// site is what all kinds of servers serve.
func site(counts *Counts) http.Handler {
	mux := http.NewServeMux()
	// Each piece comes back as soon as it is here; then the request's trailers, and one that was not announced.
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		counts.add("started")
		defer counts.add("ended")
		// Only HTTP/1.1 has to be told that answers begin before requests end.
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Proto", r.Proto)
		w.WriteHeader(http.StatusOK)
		if http.NewResponseController(w).Flush() != nil {
			counts.add("broken")
			return
		}
		sum := sha256.New()
		buffer := make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(buffer)
			sum.Write(buffer[:n])
			if n > 0 {
				_, err := w.Write(buffer[:n])
				if err == nil {
					err = http.NewResponseController(w).Flush()
				}
				if err != nil {
					counts.add("broken")
					return
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				counts.add("cancelled")
				return
			}
		}
		w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil)))
		for name, values := range r.Trailer {
			w.Header()[http.TrailerPrefix+"X-Echo-"+name] = values
		}
		counts.add("completed")
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		size, err := io.Copy(sum, r.Body)
		if err != nil {
			counts.add("cancelled")
			return
		}
		fmt.Fprintf(w, "%s %d %s", r.Proto, size, hex.EncodeToString(sum.Sum(nil)))
		w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil)))
	})
	// Refuses without having read any of the body.
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too much for me", http.StatusRequestEntityTooLarge)
	})
	// Never answers.
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		counts.add("started")
		<-r.Context().Done()
		counts.add("cancelled")
	})
	// Switches protocols: echoes lines, and ends when its caller has.
	mux.HandleFunc("/switch", func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		check(err)
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
		fmt.Fprintf(conn, "Upgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		lines := bufio.NewScanner(buffered)
		for lines.Scan() {
			fmt.Fprintf(conn, "%s\n", strings.ToUpper(lines.Text()))
		}
		counts.add("hung up")
	})
	return mux
}

func serveHTTP(options Options) {
	counts := newCounts()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	handler := site(counts)
	// Below /proxied/ the same, through another server.
	inner := httptest.NewServer(handler)
	target, err := url.Parse(inner.URL)
	check(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	outer := http.NewServeMux()
	outer.Handle("/proxied/", http.StripPrefix("/proxied", proxy))
	outer.Handle("/", handler)
	server := &http.Server{Handler: outer}
	port := listener.Addr().(*net.TCPAddr).Port
	if options.Kind == "h2c" {
		server.Handler = h2c.NewHandler(outer, &http2.Server{})
	}
	if options.Kind == "tls" || options.Kind == "tls1" {
		pair, err := tls.LoadX509KeyPair(options.Cert, options.Key)
		check(err)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		if options.Kind == "tls1" {
			server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		}
		go func() { check(server.ServeTLS(listener, "", "")) }()
	} else {
		go func() { check(server.Serve(listener)) }()
	}
	say(Answer{"port": port})
	obey(func(order Order) Answer { return counts.wait(order) })
}

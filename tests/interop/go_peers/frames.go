package main

import (
	"encoding/binary"
	"net"
)

// frames counts what interests tests in one direction of an HTTP/2 connection: PINGs and GOAWAYs.
type frames struct {
	counts *Counts
	prefix string // "" or, for the direction towards the peer, "sent_"
	skip   int    // octets until the next frame head
	head   []byte
	body   []byte // of a GOAWAY
	want   int
}

const prefaceLength = 24

func (f *frames) feed(data []byte) {
	for len(data) > 0 {
		if f.want > 0 {
			taken := min(f.want, len(data))
			f.body = append(f.body, data[:taken]...)
			f.want -= taken
			data = data[taken:]
			if f.want == 0 {
				f.goaway()
			}
			continue
		}
		if f.skip > 0 {
			taken := min(f.skip, len(data))
			f.skip -= taken
			data = data[taken:]
			continue
		}
		taken := min(9-len(f.head), len(data))
		f.head = append(f.head, data[:taken]...)
		data = data[taken:]
		if len(f.head) < 9 {
			return
		}
		length := int(f.head[0])<<16 | int(binary.BigEndian.Uint16(f.head[1:3]))
		kind, flags := f.head[3], f.head[4]
		f.head = f.head[:0]
		switch {
		case kind == 6 && flags&1 == 0:
			f.counts.add(f.prefix + "pings")
			f.skip = length
		case kind == 6:
			f.counts.add(f.prefix + "pongs")
			f.skip = length
		case kind == 7:
			f.body, f.want = nil, length
		default:
			f.skip = length
		}
	}
}

func (f *frames) goaway() {
	f.counts.add(f.prefix + "goaways")
	if binary.BigEndian.Uint32(f.body[4:8]) != 0 {
		f.counts.add(f.prefix + "goaway_errors")
		f.counts.add(f.prefix + "goaway " + string(f.body[8:]))
	}
}

// watched is a connection whose frames are counted.
type watched struct {
	net.Conn
	in, out frames
}

func watch(conn net.Conn, counts *Counts, server bool) net.Conn {
	w := &watched{Conn: conn, in: frames{counts: counts}, out: frames{counts: counts, prefix: "sent_"}}
	if server {
		w.in.skip = prefaceLength
	} else {
		w.out.skip = prefaceLength
	}
	counts.add("connections")
	return w
}

func (w *watched) Read(data []byte) (int, error) {
	n, err := w.Conn.Read(data)
	w.in.feed(data[:n])
	return n, err
}

func (w *watched) Write(data []byte) (int, error) {
	n, err := w.Conn.Write(data)
	w.out.feed(data[:n])
	return n, err
}

// watchedListener counts the connections that it accepts, and their frames.
type watchedListener struct {
	net.Listener
	counts *Counts
}

func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watch(conn, l.counts, true), nil
}

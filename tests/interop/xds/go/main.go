// SPDX-License-Identifier: Apache-2.0

// A management server on go-control-plane, driven by JSON lines: commands on standard input, what happens on standard
// output. tests/interop/xds/peers.py starts it; `make interop` builds it (tests/interop/xds/setup.sh).
//
//	controlplane -listen 127.0.0.1:0|unix:PATH [-cache snapshot|ads|linear|mux] [-cert F -key F [-client-ca F]] [-heartbeat 1s] [-types URL,...]
//
// Caches: `snapshot` one SnapshotCache (ads=false), `ads` the same with ads=true (answers a named request only when it
// covers all names of the snapshot), `linear` a LinearCache for each type, `mux` linear for endpoints and a snapshot for
// the rest. Types of -types, which a snapshot does not know, are in a linear cache always. Every node sees the same.
//
// Commands: {"op": ...}
//
//	set     resources, version?  these and no others; version: of all types, else a type's version counts its changes
//	put     resources, version?  these besides
//	remove  type, names          type by its URL or LDS, RDS, CDS, EDS, SDS
//	forget                       all resources and all versions, as a server that was started anew
//	stop                         closes the port and every connection;  start opens the same port again
//	drain                        GOAWAY and the end of streams, then as stop
//	quit
//
// A resource is Envoy's JSON; one in a discovery.v3.Resource may have a ttl. An Any of a type that is not linked in is
// sent empty under its type. A resource that has no JSON here: {"@type": URL, "@name": NAME, "@bytes": BASE64}.
//
// Events: {"event": listening|done|open|close|request|response|log, ...}; each command ends in one `done`, with `error`
// when it failed.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

type event map[string]any

var said sync.Mutex

func say(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	said.Lock()
	defer said.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// Requests and responses as they pass. Callbacks come from many streams at once.
var callbacks = xds.CallbackFuncs{
	StreamOpenFunc: func(_ context.Context, id int64, typ string) error {
		say(event{"event": "open", "stream": id, "delta": false})
		return nil
	},
	StreamClosedFunc: func(id int64, _ *core.Node) { say(event{"event": "close", "stream": id, "delta": false}) },
	DeltaStreamOpenFunc: func(_ context.Context, id int64, typ string) error {
		say(event{"event": "open", "stream": id, "delta": true})
		return nil
	},
	DeltaStreamClosedFunc: func(id int64, _ *core.Node) { say(event{"event": "close", "stream": id, "delta": true}) },
	StreamRequestFunc: func(id int64, r *discovery.DiscoveryRequest) error {
		e := event{"event": "request", "stream": id, "delta": false, "type": r.GetTypeUrl(), "names": names(r.GetResourceNames()),
			"version": r.GetVersionInfo(), "nonce": r.GetResponseNonce()}
		if r.GetErrorDetail() != nil {
			e["error"] = event{"code": r.GetErrorDetail().GetCode(), "message": r.GetErrorDetail().GetMessage()}
		}
		if r.GetNode() != nil {
			e["node"] = nodeJSON(r.GetNode())
		}
		say(e)
		return nil
	},
	StreamResponseFunc: func(_ context.Context, id int64, _ *discovery.DiscoveryRequest, r *discovery.DiscoveryResponse) {
		say(event{"event": "response", "stream": id, "delta": false, "type": r.GetTypeUrl(), "version": r.GetVersionInfo(),
			"nonce": r.GetNonce(), "count": len(r.GetResources())})
	},
	StreamDeltaRequestFunc: func(id int64, r *discovery.DeltaDiscoveryRequest) error {
		e := event{"event": "request", "stream": id, "delta": true, "type": r.GetTypeUrl(),
			"subscribe": names(r.GetResourceNamesSubscribe()), "unsubscribe": names(r.GetResourceNamesUnsubscribe()),
			"versions": r.GetInitialResourceVersions(), "nonce": r.GetResponseNonce()}
		if r.GetErrorDetail() != nil {
			e["error"] = event{"code": r.GetErrorDetail().GetCode(), "message": r.GetErrorDetail().GetMessage()}
		}
		if r.GetNode() != nil {
			e["node"] = nodeJSON(r.GetNode())
		}
		say(e)
		return nil
	},
	StreamDeltaResponseFunc: func(id int64, _ *discovery.DeltaDiscoveryRequest, r *discovery.DeltaDiscoveryResponse) {
		sent := []string{}
		for _, res := range r.GetResources() {
			sent = append(sent, res.GetName())
		}
		say(event{"event": "response", "stream": id, "delta": true, "type": r.GetTypeUrl(), "names": sent,
			"removed": names(r.GetRemovedResources()), "nonce": r.GetNonce()})
	},
}

func names(list []string) []string { // [] in JSON, not null
	if list == nil {
		return []string{}
	}
	return list
}

type server struct {
	address string // as asked for, then as it is
	creds   credentials.TransportCredentials
	store   *store
	grpc    *grpc.Server
}

func (s *server) start() error {
	network, at := "tcp", s.address
	if path, ok := strings.CutPrefix(s.address, "unix:"); ok {
		network, at = "unix", path
		os.Remove(path)
	}
	l, err := net.Listen(network, at)
	if err != nil {
		return err
	}
	if network == "tcp" {
		s.address = l.Addr().String()
	}
	options := []grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})}
	if s.creds != nil {
		options = append(options, grpc.Creds(s.creds))
	}
	s.grpc = grpc.NewServer(options...)
	discovery.RegisterAggregatedDiscoveryServiceServer(s.grpc, xds.NewServer(context.Background(), s.store.cache(), callbacks))
	go s.grpc.Serve(l)
	say(event{"event": "listening", "address": s.address})
	return nil
}

func (s *server) stop() {
	if s.grpc != nil {
		s.grpc.Stop()
		s.grpc = nil
	}
}

func (s *server) drain() {
	if s.grpc == nil {
		return
	}
	gone := make(chan bool)
	go func() { s.grpc.GracefulStop(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(2 * time.Second): // ADS streams do not end by themselves
		s.grpc.Stop()
	}
	s.grpc = nil
}

type command struct {
	Op        string            `json:"op"`
	Version   string            `json:"version"`
	Resources []json.RawMessage `json:"resources"`
	Type      string            `json:"type"`
	Names     []string          `json:"names"`
}

func (s *server) obey(c *command) error {
	switch c.Op {
	case "set":
		return s.store.set(c.Resources, c.Version, true)
	case "put":
		return s.store.set(c.Resources, c.Version, false)
	case "remove":
		return s.store.remove(c.Type, c.Names)
	case "forget":
		s.stop()
		s.store.forget()
		return s.start()
	case "stop":
		s.stop()
	case "drain":
		s.drain()
	case "start":
		return s.start()
	case "quit":
		s.stop()
	}
	return nil
}

func credentialsOf(cert, key, clientCA string) credentials.TransportCredentials {
	if cert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	check(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		check(err)
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AppendCertsFromPEM(pem)
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(config)
}

func check(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address:port, or unix:PATH")
	kind := flag.String("cache", "snapshot", "snapshot, ads, linear, mux")
	cert := flag.String("cert", "", "certificate chain, PEM")
	key := flag.String("key", "", "its key")
	clientCA := flag.String("client-ca", "", "roots of clients: their certificates are asked for")
	heartbeat := flag.Duration("heartbeat", 0, "of resources with a ttl")
	extra := flag.String("types", "type.googleapis.com/istio.networking.nds.v1.NameTable", "type URLs besides those of snapshots")
	flag.Parse()

	s := &server{address: *listen, creds: credentialsOf(*cert, *key, *clientCA), store: newStore(*kind, *heartbeat, strings.Split(*extra, ","))}
	check(s.start())
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var c command
		if err = json.Unmarshal(line, &c); err == nil {
			err = s.obey(&c)
		}
		done := event{"event": "done", "op": c.Op}
		if err != nil {
			done["error"] = err.Error()
		}
		say(done)
		if c.Op == "quit" {
			return
		}
	}
}

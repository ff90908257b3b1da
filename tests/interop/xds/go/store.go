// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/log"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

const oneNode = "all"

type everyNode struct{}

func (everyNode) ID(*core.Node) string { return oneNode }

var short = map[string]string{"LDS": resource.ListenerType, "RDS": resource.RouteType, "CDS": resource.ClusterType,
	"EDS": resource.EndpointType, "SDS": resource.SecretType}

// ---- JSON ----

// Types that are not linked in are read as a message without fields.
type lenient struct{ nothing protoreflect.MessageType }

func newLenient() lenient {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("nothing.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Nothing")}}}, nil)
	check(err)
	return lenient{dynamicpb.NewMessageType(file.Messages().Get(0))}
}

func (l lenient) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

func (l lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if t, err := protoregistry.GlobalTypes.FindMessageByURL(url); err == nil {
		return t, nil
	}
	return l.nothing, nil
}

func (l lenient) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByName(name)
}

func (l lenient) FindExtensionByNumber(m protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByNumber(m, n)
}

var reader = protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: newLenient()}

type entry struct {
	url, name string
	res       types.ResourceWithTTL
}

// A message without fields that packs to these bytes.
func raw(b []byte) proto.Message {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(b)
	return m
}

func parse(text json.RawMessage) (entry, error) {
	var head struct {
		Type     string          `json:"@type"`
		Name     string          `json:"@name"`
		Bytes    *string         `json:"@bytes"`
		TTL      string          `json:"ttl"`
		Resource json.RawMessage `json:"resource"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return entry{}, err
	}
	if head.Type == resource.APITypePrefix+string((&discovery.Resource{}).ProtoReflect().Descriptor().FullName()) {
		e, err := parse(head.Resource)
		if err == nil && head.TTL != "" {
			var ttl time.Duration
			ttl, err = time.ParseDuration(head.TTL)
			e.res.TTL = &ttl
		}
		return e, err
	}
	if head.Bytes != nil {
		b, err := base64.StdEncoding.DecodeString(*head.Bytes)
		return entry{head.Type, head.Name, types.ResourceWithTTL{Resource: raw(b)}}, err
	}
	t, err := protoregistry.GlobalTypes.FindMessageByURL(head.Type)
	if err != nil {
		return entry{}, fmt.Errorf("%s: %w", head.Type, err)
	}
	m := t.New().Interface()
	fields := map[string]json.RawMessage{}
	json.Unmarshal(text, &fields)
	delete(fields, "@type")
	bare, _ := json.Marshal(fields)
	if err := reader.Unmarshal(bare, m); err != nil {
		return entry{}, err
	}
	return entry{head.Type, cache.GetResourceName(m), types.ResourceWithTTL{Resource: m}}, nil
}

func nodeJSON(n *core.Node) json.RawMessage {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(n)
	if err != nil {
		return json.RawMessage(`null`)
	}
	return text
}

// ---- the caches ----

type store struct {
	kind      string
	heartbeat time.Duration
	extra     []string                                    // types that no snapshot knows
	all       map[string]map[string]types.ResourceWithTTL // type URL, name
	versions  map[string]string
	changes   int
	snapshots cache.SnapshotCache
	linear    map[string]*cache.LinearCache
	mux       *cache.MuxCache
}

func newStore(kind string, heartbeat time.Duration, extra []string) *store {
	s := &store{kind: kind, heartbeat: heartbeat, extra: extra}
	s.forget()
	return s
}

func (s *store) forget() {
	logger := log.LoggerFuncs{
		WarnFunc:  func(f string, a ...any) { say(event{"event": "log", "text": fmt.Sprintf(f, a...)}) },
		ErrorFunc: func(f string, a ...any) { say(event{"event": "log", "text": fmt.Sprintf(f, a...)}) },
	}
	s.all, s.versions, s.changes, s.linear = map[string]map[string]types.ResourceWithTTL{}, map[string]string{}, 0, map[string]*cache.LinearCache{}
	if s.heartbeat > 0 {
		s.snapshots = cache.NewSnapshotCacheWithHeartbeating(context.Background(), s.kind == "ads", everyNode{}, logger, s.heartbeat)
	} else {
		s.snapshots = cache.NewSnapshotCache(s.kind == "ads", everyNode{}, logger)
	}
	s.mux = &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return s.classify(r.GetTypeUrl()) },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return s.classify(r.GetTypeUrl()) },
		Caches:        map[string]cache.Cache{"": s.snapshots},
	}
	for _, url := range short {
		s.makeLinear(url)
	}
	for _, url := range s.extra {
		s.makeLinear(url)
	}
}

func (s *store) cache() cache.Cache { return s.mux }

func (s *store) isLinear(url string) bool {
	return s.kind == "linear" || (s.kind == "mux" && url == resource.EndpointType) || cache.GetResponseType(url) == types.UnknownType
}

func (s *store) classify(url string) string {
	if _, there := s.linear[url]; there {
		return url
	}
	return ""
}

func (s *store) makeLinear(url string) { // before the first stream
	if s.isLinear(url) {
		s.linear[url] = cache.NewLinearCache(url)
		s.mux.Caches[url] = s.linear[url]
	}
}

func (s *store) set(list []json.RawMessage, version string, alone bool) error {
	fresh := map[string]map[string]types.ResourceWithTTL{}
	for url, of := range s.all {
		fresh[url] = map[string]types.ResourceWithTTL{}
		for name, r := range of {
			if !alone {
				fresh[url][name] = r
			}
		}
	}
	for i, text := range list {
		e, err := parse(text)
		if err != nil {
			return fmt.Errorf("resources[%d]: %w", i, err)
		}
		if s.linear[e.url] == nil && cache.GetResponseType(e.url) == types.UnknownType {
			return fmt.Errorf("resources[%d]: %s is not among -types", i, e.url)
		}
		if fresh[e.url] == nil {
			fresh[e.url] = map[string]types.ResourceWithTTL{}
		}
		fresh[e.url][e.name] = e.res
	}
	return s.publish(fresh, version)
}

func (s *store) remove(typ string, names []string) error {
	url, fresh := short[typ], map[string]map[string]types.ResourceWithTTL{}
	if url == "" {
		url = typ
	}
	for u, of := range s.all {
		fresh[u] = map[string]types.ResourceWithTTL{}
		for name, r := range of {
			fresh[u][name] = r
		}
	}
	for _, name := range names {
		delete(fresh[url], name)
	}
	return s.publish(fresh, "")
}

func same(a, b map[string]types.ResourceWithTTL) bool {
	if len(a) != len(b) {
		return false
	}
	for name, r := range a {
		o, there := b[name]
		if !there || !proto.Equal(r.Resource, o.Resource) || (r.TTL == nil) != (o.TTL == nil) || (r.TTL != nil && *r.TTL != *o.TTL) {
			return false
		}
	}
	return true
}

func (s *store) publish(fresh map[string]map[string]types.ResourceWithTTL, version string) error {
	snapshot := &cache.Snapshot{}
	for url, of := range fresh {
		if version != "" {
			s.versions[url] = version
		} else if s.versions[url] == "" || !same(of, s.all[url]) {
			s.changes++
			s.versions[url] = strconv.Itoa(s.changes)
		}
		if l := s.linear[url]; l != nil {
			plain := map[string]types.Resource{}
			for name, r := range of {
				plain[name] = r.Resource
			}
			l.SetResources(plain)
			continue
		}
		list := []types.ResourceWithTTL{}
		for _, r := range of {
			list = append(list, r)
		}
		snapshot.Resources[cache.GetResponseType(url)] = cache.NewResourcesWithTTL(s.versions[url], list)
	}
	s.all = fresh
	return s.snapshots.SetSnapshot(context.Background(), oneNode, snapshot)
}

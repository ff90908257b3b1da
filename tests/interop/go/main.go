// SPDX-License-Identifier: Apache-2.0

// peer server PORT CERT KEY CA ID: serves the files of its directory, and POST bodies back, over mutual TLS.
// peer client PORT CERT KEY CA ID METHOD PATH: prints the answer's body; standard input is the request's body.
// ID is the SPIFFE ID that the other side must have. PEER_TLS=1.2 offers no more than that.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
)

func pinned(id string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		for _, u := range s.PeerCertificates[0].URIs {
			if u.String() == id {
				return nil
			}
		}
		return fmt.Errorf("the peer is not %s", id)
	}
}

// The library's own check wants a host name; the chain is checked here instead, and the ID by pinned.
func chained(roots *x509.CertPool) func([][]byte, [][]*x509.Certificate) error {
	return func(raw [][]byte, _ [][]*x509.Certificate) error {
		between := x509.NewCertPool()
		var leaf *x509.Certificate
		for i, der := range raw {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return err
			}
			if i == 0 {
				leaf = c
			} else {
				between.AddCert(c)
			}
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err
	}
}

func config(cert, key, ca, id string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		InsecureSkipVerify: true, VerifyPeerCertificate: chained(roots), VerifyConnection: pinned(id)}
	if os.Getenv("PEER_TLS") == "1.2" {
		c.MaxVersion = tls.VersionTLS12
	}
	return c
}

func serve(port string, c *tls.Config) {
	l, err := tls.Listen("tcp", "127.0.0.1:"+port, c)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
			return
		}
		http.ServeFile(w, r, filepath.Base(r.URL.Path))
	})))
}

func ask(port string, c *tls.Config, method, path string) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
	var body io.Reader
	if method == "POST" {
		body = os.Stdin
	}
	q, err := http.NewRequest(method, "https://127.0.0.1:"+port+path, body)
	if err != nil {
		log.Fatal(err)
	}
	if in, err := os.Stdin.Stat(); method == "POST" && err == nil {
		q.ContentLength = in.Size()
	}
	r, err := client.Do(q)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, r.Body); err != nil || r.StatusCode != 200 {
		log.Fatal(r.Status, err)
	}
}

func main() {
	a := os.Args
	c := config(a[3], a[4], a[5], a[6])
	if a[1] == "server" {
		serve(a[2], c)
	} else {
		ask(a[2], c, a[7], a[8])
	}
}

package validator

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxMessageBytes = 16 * 1024 * 1024
	prefixBytes     = 5 // a compression flag and the length
)

// connection makes gRPC calls over HTTP/2 of the standard library.
type connection struct {
	base   string
	client *http.Client
}

// connect makes a connection to `host:port`. Without a configuration of TLS it is in plain text.
func connect(target string, config *tls.Config) *connection {
	transport := &http.Transport{
		TLSClientConfig: config,
		Protocols:       new(http.Protocols),
		// A dead peer is noticed by pings.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	scheme := "https"
	if config == nil {
		scheme = "http"
		transport.Protocols.SetUnencryptedHTTP2(true)
	} else {
		transport.Protocols.SetHTTP2(true)
	}
	return &connection{scheme + "://" + target, &http.Client{Transport: transport}}
}

// stream is the response to a call: messages, and then the status.
type stream struct{ response *http.Response }

func (c *connection) open(ctx context.Context, method string, message []byte) (*stream, error) {
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	request, err := http.NewRequestWithContext(ctx, "POST", c.base+"/token_service.v1."+method, bytes.NewReader(append(body, message...)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	if deadline, set := ctx.Deadline(); set {
		request.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", max(1, time.Until(deadline).Milliseconds())))
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: the service answered %s", method, response.Status)
	}
	return &stream{response}, nil
}

// next returns the next message, or io.EOF after the last one of a call that succeeded.
func (s *stream) next() ([]byte, error) {
	var prefix [prefixBytes]byte
	if _, err := io.ReadFull(s.response.Body, prefix[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, s.status()
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(prefix[1:])
	if prefix[0] != 0 || length > maxMessageBytes {
		return nil, errProtocol // no compression was offered
	}
	message := make([]byte, length)
	_, err := io.ReadFull(s.response.Body, message)
	return message, err
}

// status returns io.EOF for OK. A response without messages may have its status in the header.
func (s *stream) status() error {
	status, message := s.response.Trailer.Get("Grpc-Status"), s.response.Trailer.Get("Grpc-Message")
	if status == "" {
		status, message = s.response.Header.Get("Grpc-Status"), s.response.Header.Get("Grpc-Message")
	}
	if status == "0" {
		return io.EOF
	}
	return fmt.Errorf("gRPC status %q: %s", status, message)
}

func (s *stream) close() { s.response.Body.Close() }

// call makes a call with one response.
func (c *connection) call(ctx context.Context, method string, message []byte) ([]byte, error) {
	opened, err := c.open(ctx, method, message)
	if err != nil {
		return nil, err
	}
	defer opened.close()
	answer, err := opened.next()
	if err != nil {
		return nil, err
	}
	if _, err := opened.next(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return answer, nil
}

// Follow judges tokens: a question in JSON a line, its answer a line.
//
//	{"token": "..."} -> {"verdict": "ACTIVE" | a reason | "STALE"};  {} -> the status
//
// Its argument is a JSON object with `issuer`, `target`, `audience`, `bound` and `subscriberId`.
package main

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log"
	"os"

	validator "example.com/token-service/validator"
)

type options struct {
	Issuer       string  `json:"issuer"`
	Target       string  `json:"target"`
	Audience     string  `json:"audience"`
	Bound        float64 `json:"bound"`
	SubscriberID string  `json:"subscriberId"`
}

func main() {
	var given options
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		log.Fatal(err)
	}
	made, err := validator.New(validator.Config{Issuer: given.Issuer, Audience: given.Audience, Bound: given.Bound})
	if err != nil {
		log.Fatal(err)
	}
	follower := validator.Follow(made, given.Target, nil, given.SubscriberID)
	defer follower.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var question struct {
			Token *string `json:"token"`
		}
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			log.Fatal(err)
		}
		var answer any
		if question.Token == nil {
			status := follower.Status()
			answer = map[string]any{
				"isReady": made.IsReady(), "cursor": status.Cursor, "streams": status.Streams, "resets": status.Resets,
				"lastError": text(status.LastError),
			}
		} else {
			_, err := follower.Validate(context.Background(), *question.Token)
			answer = map[string]any{"verdict": verdict(err)}
		}
		written, err := json.Marshal(answer)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(written))
	}
}

func text(err error) any {
	if err == nil {
		return nil
	}
	return err.Error()
}

func verdict(err error) string {
	var refused *validator.InvalidTokenError
	switch {
	case err == nil:
		return "ACTIVE"
	case errors.As(err, &refused):
		return refused.Reason
	default:
		return "STALE"
	}
}

#!/usr/bin/env bash
# bash run.sh -c demo: the acoustic model, and a vocoder on true latents; then the vocoder goes on, against
# discriminators, on the posterior means that the acoustic model makes.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

acoustic_model() {
    run acoustic_model training.train_num_steps=700 \
        "training.stages=[{parts: {text_encoder: 2.0e-3, prosody: 2.0e-3, decoder: 2.0e-3}, final: 0.05}]" "${GIVEN[@]}"
}

vocoder_pretraining() {
    run vocoder_pretraining training.train_num_steps=1000 \
        "training.stages=[{parts: {generator: 2.0e-3}, latents: 'true', final: 0.5}]" "${GIVEN[@]}"
}

vocoder() {
    run vocoder -from "text_encoder,prosody,decoder=$VOICE/acoustic_model" \
        -from "generator=$VOICE/vocoder_pretraining" fine_tuning.rate=1.0 training.train_num_steps=200 \
        "training.stages=[{parts: {generator: 1.0e-3, discriminators: 2.0e-3}, final: 0.1}]" "${GIVEN[@]}"
}

voice() {  # all parts together: measured on held-out clips, and written
    run "" -from "text_encoder,prosody,decoder=$VOICE/acoustic_model" -from "generator,discriminators=$VOICE/vocoder" \
        "${GIVEN[@]}" training.train_num_steps=0
}

both acoustic_model vocoder_pretraining
one vocoder
one voice
